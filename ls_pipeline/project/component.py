"""The component ``ls_pipeline.LabelingComponent``: a pipeline that a ``defs.yaml`` configures."""

# No `from __future__ import annotations`: Dagster reads the annotations.
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import BaseModel, Field, GetJsonSchemaHandler, create_model
from pydantic_core import core_schema

from ls_pipeline.project.build import build_definitions
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.settings.entries import Entry

TEMPLATE = """\
type: {type}

attributes:
  prefix: {prefix}  # asset keys are {prefix}/tasks, {prefix}/training_data and so on
  # label_studio:  # default: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY
  #   url: https://labels.example.com
  #   api_key: "{{{{ env.LABEL_STUDIO_API_KEY }}}}"
  # s3:  # default: AWS_* variables, AWS's files, or the machine's role
  #   endpoint_url: https://minio.example.com
  # poll_seconds: 30
  connections: {{}}
  # connections:
  #   reviews:
  #     source: {{type: s3, path: my-bucket, params: {{prefix: reviews}}}}
  #     target: {{type: s3-completions, path: my-labels}}
  #     label_config_file: reviews.xml
"""
"""What a scaffold begins with: it loads as it is."""


def _described(text: str, *examples: Any) -> dg.Resolver:
    """Return what describes a field: Dagster loses the description of one that has a default."""
    resolver: dg.Resolver = dg.Resolver.default(description=text, examples=list(examples) or None)
    return resolver


class LabelStudioServer(dg.Model, dg.Resolvable):
    """A Label Studio server."""

    url: Annotated[
        str, _described("Its URL. Default: LABEL_STUDIO_URL.", "https://labels.example.com")
    ] = ""
    api_key: Annotated[
        str,
        _described(
            "A token of a user. Default: LABEL_STUDIO_API_KEY.", "{{ env.LABEL_STUDIO_API_KEY }}"
        ),
    ] = ""
    google_credentials: Annotated[
        str,
        _described(
            "Key file of a service account, with which Label Studio signs gs:// URLs. "
            "Default: LABEL_STUDIO_GOOGLE_CREDENTIALS."
        ),
    ] = ""


class S3Store(dg.Model, dg.Resolvable):
    """Amazon S3, or another store that speaks its protocol: the fields of ``S3Resource``."""

    region_name: Annotated[str | None, _described("The region. Default: AWS_DEFAULT_REGION.")] = (
        None
    )
    endpoint_url: Annotated[
        str | None,
        _described(
            "The URL of a store other than Amazon S3. Default: AWS_ENDPOINT_URL.",
            "https://minio.example.com",
        ),
    ] = None
    profile_name: Annotated[
        str | None, _described("A profile of AWS's files. Default: AWS_PROFILE.")
    ] = None
    aws_access_key_id: Annotated[
        str | None, _described("Default: AWS_ACCESS_KEY_ID, a profile, or a role.")
    ] = None
    aws_secret_access_key: Annotated[
        str | None,
        _described("Default: AWS_SECRET_ACCESS_KEY.", "{{ env.TEAM_SECRET_ACCESS_KEY }}"),
    ] = None
    aws_session_token: Annotated[str | None, _described("Default: AWS_SESSION_TOKEN.")] = None
    max_attempts: Annotated[int, _described("How often a request is tried.")] = 5
    use_ssl: Annotated[bool, _described("False: http:// without an endpoint_url.")] = True
    verify: Annotated[bool | None, _described("False: the store's certificate is not checked.")] = (
        None
    )
    use_unsigned_session: Annotated[
        bool, _described("True: requests carry no signature, for public buckets.")
    ] = False


class GCSStore(dg.Model, dg.Resolvable):
    """Google Cloud Storage: the fields of ``GCSResource``."""

    project: Annotated[str | None, _described("The project. Default: GOOGLE_CLOUD_PROJECT.")] = None


class EntryDocument:
    """An `Entry` in the schema. It may have templates, so it is checked once they are filled in."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        return core_schema.any_schema()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: object, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(Entry.__pydantic_core_schema__)


def _as_written(context: dg.ResolutionContext, connections: Any) -> Any:
    return context.resolve_value(connections)


class _PreciseSchema(BaseModel):
    """A model whose JSON schema has no ``anyOf`` of a mapping and something plain.

    A validator says of such a one only that nothing fits. Where it is known which one is meant, it
    names the field.
    """

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        precise: dict[str, Any] = _precise(handler(schema))
        return precise


def _precise(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_precise(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    precise = {key: _precise(value) for key, value in schema.items()}
    plain = [each["type"] for each in precise.get("anyOf", ()) if each.keys() == {"type"}]
    others = [each for each in precise.get("anyOf", ()) if each.keys() != {"type"}]
    if plain and len(others) == 1:
        del precise["anyOf"]
        precise |= {"if": {"type": plain}, "else": others[0]}
    return precise


class LabelingScaffolder(dg.Scaffolder[Any]):
    """Writes a ``defs.yaml`` that loads as it is, with comments on what to fill in."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        prefix = "".join(
            letter if letter.isascii() and letter.isalnum() else "_"
            for letter in request.target_path.name
        )
        text = TEMPLATE.format(type=request.type_name, prefix=prefix)
        file = request.target_path if request.append else request.target_path / "defs.yaml"
        with file.open("a" if request.append else "w", encoding="utf-8") as stream:
            stream.write(f"---\n{text}" if request.append else text)


@dg.scaffold_with(LabelingScaffolder)
class LabelingComponent(dg.Component, dg.Model, dg.Resolvable):
    """Labels data with Label Studio.

    It loads tasks from S3 and GCS, exports finished labels as JSON, and makes snapshots of training
    data as Parquet.

    Everything that is left out has the environment's default, so a new component loads without
    credentials and without a network.
    """

    prefix: Annotated[
        str,
        _described(
            "The first part of every asset's key, and of the names of jobs, sensors, "
            "resources and partitions. Default: the name of the component's folder.",
            "vision",
        ),
    ] = ""
    group: Annotated[str, _described("The group of the assets.")] = "labeling"
    owners: Annotated[
        list[str] | None,
        _described(
            "The owners of the assets. Default: LS_PIPELINE_OWNERS, else team:labeling.",
            ["team:vision", "me@example.com"],
        ),
    ] = None
    home: Annotated[
        str,
        _described(
            "The folder of the ledger, of local copies and of the webhooks' secret. Each "
            "component needs its own. Default: LS_PIPELINE_HOME, else .ls_pipeline in the working "
            "directory."
        ),
    ] = ""
    database_url: Annotated[
        str,
        _described(
            "The ledger's database. Each component needs its own. Default: a file in home "
            "if that is given, else LS_PIPELINE_DATABASE_URL, else a file in the default home.",
            "{{ env.VISION_DATABASE_URL }}",
        ),
    ] = ""
    webhook_url: Annotated[
        str,
        _described(
            "Where Label Studio reaches `ls-pipeline webhooks`. Default: LS_PIPELINE_WEBHOOK_URL."
        ),
    ] = ""
    label_studio: Annotated[
        LabelStudioServer | None,
        _described("Label Studio. Default: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."),
    ] = None
    s3: Annotated[
        S3Store | None,
        _described("S3. Default: AWS_* variables, AWS's files, or the machine's role."),
    ] = None
    gcs: Annotated[GCSStore | None, _described("GCS. Default: Google's default credentials.")] = (
        None
    )
    poll_seconds: Annotated[
        int | None,
        _described(
            "The interval of the sensors that compare. Default: LS_PIPELINE_POLL_SECONDS, else 30."
        ),
    ] = None
    notification_seconds: Annotated[
        int | None,
        _described(
            "The interval of the sensor of notifications. Default: "
            "LS_PIPELINE_NOTIFICATION_SECONDS, else 4."
        ),
    ] = None
    connections: Annotated[
        dict[str, Any],
        dg.Resolver(
            _as_written,
            model_field_type=dict[str, EntryDocument],
            description="Connections by name, in the form of connections.yaml. A sensor's tick "
            "applies what changes here from one deployment to the next; settings that people save "
            "in Dagster stay. A connection that is no longer declared is disabled.",
            examples=[
                {
                    "reviews": {
                        "source": {"type": "s3", "path": "my-bucket"},
                        "target": {"type": "s3-completions", "path": "my-labels"},
                        "label_config_file": "reviews.xml",
                    }
                }
            ],
        ),
    ] = Field(default_factory=dict)
    pool: Annotated[
        str | None,
        _described(
            "The concurrency pool of the runs that work on connections. Default: none.",
            "label_studio",
        ),
    ] = None
    automation: Annotated[
        bool, _described("False: the sensors are stopped until a person starts them in Dagster.")
    ] = True

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the model of the attributes, whose schema leads to the field that is wrong."""
        model: type[BaseModel] = cls.model()
        return create_model(model.__name__, __base__=(_PreciseSchema, model))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the pipeline."""
        place = context.path / "defs.yaml"
        return build_definitions(
            prefix=self.prefix or context.path.name,
            group=self.group,
            owners=self.owners,
            home=self.home,
            database_url=self.database_url,
            webhook_url=self.webhook_url,
            label_studio=self._label_studio(),
            s3=self._s3(),
            gcs=self._gcs(),
            poll_seconds=self.poll_seconds,
            notification_seconds=self.notification_seconds,
            connections=_with_whole_paths(self.connections, context.path),
            declared_in=place.relative_to(context.project_root).as_posix(),
            pool=self.pool,
            automation=self.automation,
        )

    def _label_studio(self) -> LabelStudio | None:
        return LabelStudio(**self.label_studio.model_dump()) if self.label_studio else None

    def _s3(self) -> Any:
        if self.s3 is None:
            return None
        from dagster_aws.s3 import S3Resource  # two seconds

        return S3Resource(**self.s3.model_dump())

    def _gcs(self) -> Any:
        if self.gcs is None:
            return None
        from dagster_gcp.gcs import GCSResource  # three seconds

        return GCSResource(**self.gcs.model_dump())


def _with_whole_paths(connections: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return connections whose files are found from anywhere, not only from a folder."""
    return {
        name: {**entry, "label_config_file": str(folder / entry["label_config_file"])}
        if isinstance(entry, dict) and isinstance(entry.get("label_config_file"), str)
        else entry
        for name, entry in connections.items()
    }
