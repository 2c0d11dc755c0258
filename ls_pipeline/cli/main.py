"""``ls-pipeline``: start, connections, sync, status, export, doctor, webhooks, demo."""

from __future__ import annotations

from typing import Any

import click

from ls_pipeline.cli.connections.commands import connections
from ls_pipeline.cli.console import print_error
from ls_pipeline.cli.demo.command import demo
from ls_pipeline.cli.doctor.command import doctor
from ls_pipeline.cli.export import export
from ls_pipeline.cli.ledger import ledger
from ls_pipeline.cli.options import FAILED, MISUSED
from ls_pipeline.cli.prune import prune
from ls_pipeline.cli.quarantine import quarantine
from ls_pipeline.cli.start import start
from ls_pipeline.cli.status import status
from ls_pipeline.cli.sync import sync
from ls_pipeline.cli.webhooks import webhooks
from ls_pipeline.domain.errors import (
    ConnectionsFileError,
    InvalidConnectionError,
    NotInQuarantineError,
    PipelineError,
    UnknownConnectionError,
)

MISUSES = (
    InvalidConnectionError,
    ConnectionsFileError,
    NotInQuarantineError,
    UnknownConnectionError,
)

EPILOG = """
\b
Examples:
  ls-pipeline demo             see it run, on servers of its own
  ls-pipeline start --init --source s3 --source-path my-bucket
  ls-pipeline status --watch   how all connections stand

\b
Label Studio:   LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY; LABEL_STUDIO_PUBLIC_URL for links,
                LABEL_STUDIO_GOOGLE_CREDENTIALS for it to sign gs:// URLs
S3:             AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_PROFILE and the other AWS_* variables
GCS:            GOOGLE_CLOUD_PROJECT, GOOGLE_APPLICATION_CREDENTIALS, STORAGE_EMULATOR_HOST
Webhooks:       LS_PIPELINE_WEBHOOK_URL, LS_PIPELINE_WEBHOOK_SECRET
Sensors:        LS_PIPELINE_POLL_SECONDS (30), LS_PIPELINE_NOTIFICATION_SECONDS (4)
Own state:      LS_PIPELINE_HOME (.ls_pipeline here), LS_PIPELINE_DATABASE_URL

\b
Exit codes:     0 done; 1 something failed; 2 the command line is wrong, nothing was done

\b
Completion:     eval "$(_LS_PIPELINE_COMPLETE=bash_source ls-pipeline)" in ~/.bashrc; zsh_source
                in ~/.zshrc; fish_source in ~/.config/fish/config.fish, piped to `source`

\b
Colours:        on a terminal only; NO_COLOR=1 for none
"""


class Cli(click.Group):
    """Turns our errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MISUSES as error:
            _fail(ctx, error, MISUSED)
        except PipelineError as error:
            _fail(ctx, error, FAILED)
        except OSError as error:
            if not error.filename:
                raise
            _fail(ctx, PipelineError(f"{error.filename}: {error.strerror}."), FAILED)


def _fail(ctx: click.Context, error: PipelineError, code: int) -> None:
    print_error(f"Error: {error}")
    ctx.exit(code)


@click.group(cls=Cli, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ls-pipeline")
def main() -> None:
    """Turn objects of S3 and GCS buckets into Label Studio tasks, and write the labels back."""


for command in (
    connections,
    demo,
    doctor,
    export,
    ledger,
    prune,
    quarantine,
    start,
    status,
    sync,
    webhooks,
):
    main.add_command(command)
