"""What commands work with, in memory: the parts of a bench."""

from __future__ import annotations

from ls_pipeline.cli.context import CliContext
from ls_pipeline.domain.errors import PipelineError
from tests.assets.test_settings import Buckets


class MemoryContext(CliContext):
    """Commands receive it as the object of ``CliRunner.invoke``."""

    def __init__(self, bench, instance=None, **parts):
        super().__init__()
        self.ledger, self.label_studio, self.instance = bench.ledger, bench.app, instance
        self.s3 = self.gcs = Buckets(bench.bucket, bench.target)
        for name, part in parts.items():
            setattr(self, name, part)

    @property
    def known_instance(self):
        if self.instance is None:
            raise PipelineError("There is no Dagster home.")
        return self.instance
