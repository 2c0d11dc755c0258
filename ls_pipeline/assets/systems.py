"""The outside systems of a pipeline, from Dagster's resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ls_pipeline.engine.context import RunContext

if TYPE_CHECKING:
    from ls_pipeline.assets.pipeline import Pipeline
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.gcs.bucket import GCSBuckets
    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.resources.queue import QueueOpener
    from ls_pipeline.resources.s3.bucket import S3Buckets
    from ls_pipeline.settings.model import Source, Target


@dataclass(frozen=True, slots=True)
class Systems:
    """What a run or a tick works with. It requires the resources whose attributes it reads."""

    pipeline: Pipeline
    resources: Any
    """Dagster's, by name."""

    @property
    def ledger(self) -> Ledger:
        ledger: Ledger = self._resource("ledger")
        return ledger

    @property
    def progress(self) -> Progress:
        progress: Progress = self._resource("progress")
        return progress

    @property
    def s3(self) -> S3Buckets:
        s3: S3Buckets = self._resource("s3")
        return s3

    @property
    def gcs(self) -> GCSBuckets:
        gcs: GCSBuckets = self._resource("gcs")
        return gcs

    @property
    def queues(self) -> QueueOpener:
        queues: QueueOpener = self._resource("queues")
        return queues

    @property
    def label_studio(self) -> LabelingApp:
        label_studio: LabelingApp = self._resource("label_studio")
        return label_studio

    def bucket_of(self, part: Source | Target) -> Bucket:
        """Open the bucket of a source or target, with its params."""
        return (self.s3 if part.cloud == "s3" else self.gcs).bucket_of(part)

    def run(
        self,
        held: HeldConnection,
        revision: Revision,
        part: Source | Target,
        *,
        allow_mass_change: bool = False,
    ) -> RunContext:
        """Return what a run that works on a source or target of a connection works with."""
        return RunContext(
            held,
            revision,
            self.bucket_of(part),
            self.label_studio,
            self.progress,
            open_bucket=self.bucket_of,
            allow_mass_change=allow_mass_change,
            place=self.pipeline.place,
        )

    def _resource(self, name: str) -> Any:
        return getattr(self.resources, self.pipeline.name(name))
