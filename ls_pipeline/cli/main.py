"""The command ``ls-pipeline``, with its subcommands."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager, suppress
from traceback import format_exc
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ls_pipeline.cli import INTERRUPTED
from ls_pipeline.cli.connections.commands import connections
from ls_pipeline.cli.console import prepare_streams, print_error, print_json
from ls_pipeline.cli.demo.demo import demo
from ls_pipeline.cli.doctor.checks import doctor
from ls_pipeline.cli.export import export
from ls_pipeline.cli.ledger import ledger
from ls_pipeline.cli.metrics import metrics
from ls_pipeline.cli.options import FAILED, USAGE_ERROR, verbatim
from ls_pipeline.cli.prune import prune
from ls_pipeline.cli.quarantine import quarantine
from ls_pipeline.cli.start import start
from ls_pipeline.cli.status import status
from ls_pipeline.cli.sync import sync
from ls_pipeline.cli.webhooks import webhooks
from ls_pipeline.domain import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE_ERRORS = (
    errors.InvalidConnectionError,
    errors.ConnectionsFileError,
    errors.NotInQuarantineError,
    errors.UnknownConnectionError,
)

EPILOG = verbatim("""
Examples:
  ls-pipeline demo             try it on temporary servers
  ls-pipeline start --init --source s3 --source-path my-bucket
  ls-pipeline status --watch   the state of all connections

Label Studio:   LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY; for links LABEL_STUDIO_PUBLIC_URL;
                to sign gs:// URLs LABEL_STUDIO_GOOGLE_CREDENTIALS;
                for an identity proxy LABEL_STUDIO_HEADERS
Networks:       HTTP_PROXY, HTTPS_PROXY, NO_PROXY; certificates: SSL_CERT_FILE,
                AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE
S3:             AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_PROFILE and the other AWS_* variables
GCS:            GOOGLE_CLOUD_PROJECT, GOOGLE_APPLICATION_CREDENTIALS, STORAGE_EMULATOR_HOST
Webhooks:       LS_PIPELINE_WEBHOOK_URL, LS_PIPELINE_WEBHOOK_SECRET
Sensors:        LS_PIPELINE_POLL_SECONDS (30), LS_PIPELINE_NOTIFICATION_SECONDS (4)
Local state:    LS_PIPELINE_HOME (.ls_pipeline), LS_PIPELINE_DATABASE_URL

Exit codes:     0 success; 1 something failed; 2 wrong usage, nothing was done; 130 Ctrl-C

Completion:     bash: eval "$(_LS_PIPELINE_COMPLETE=bash_source ls-pipeline)" in ~/.bashrc;
                zsh: the same with zsh_source in ~/.zshrc;
                fish: _LS_PIPELINE_COMPLETE=fish_source ls-pipeline | source

Colors:         on a terminal only; NO_COLOR=1 turns them off
""")


WANTS_JSON = "ls_pipeline.json"
"""The entry of a context's ``meta`` that says whether errors are printed as JSON, too."""


class Cli(click.Group):
    """The root command: prints our errors as a sentence, and exits with their code."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command with streams that it can write to."""
        prepare_streams()
        return super().main(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether a script reads the output; all words are still there."""
        ctx.meta[WANTS_JSON] = "--json" in args
        with _click_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with _click_errors(ctx):
                return super().invoke(ctx)
        except errors.PipelineError as error:
            exit_code = USAGE_ERROR if isinstance(error, USAGE_ERRORS) else FAILED
            report = _Report(error_code(error), str(error), error.message, error.hint)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - Python would print its text as it is
            text = format_exc()
            if isinstance(error, OSError) and (error.filename or error.errno in _WRITING):
                text = f"{error.filename or 'The output'}: {error.strerror}."
            exit_code, report = FAILED, _Report("unexpected", text, text)
        if ctx.meta.get(WANTS_JSON):
            _print_json_error(report.code, report.message, report.hint)
        print_error(f"Error: {report.text}")
        raise click.exceptions.Exit(exit_code)


@contextmanager
def _click_errors(ctx: click.Context) -> Iterator[None]:
    """Print errors of click as JSON, too; and end after Ctrl-C as a shell expects it."""
    try:
        yield
    except click.ClickException as error:
        if ctx.meta.get(WANTS_JSON):
            code = "usage" if isinstance(error, click.UsageError) else "unexpected"
            _print_json_error(code, error.format_message(), "")
        raise
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error, click.Abort) and not isinstance(error.__context__, KeyboardInterrupt):
            raise  # standard input has no answer to a question
        print_error("\nAborted!")  # below the terminal's ^C
        raise click.exceptions.Exit(INTERRUPTED) from None


_WRITING = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)
"""Errors of a write, which do not name the file if it is a standard stream."""


class _Report(NamedTuple):
    """An error as it is printed: ``text`` for people, the rest for scripts."""

    code: str
    text: str
    message: str
    hint: str = ""


def error_code(error: errors.PipelineError) -> str:
    """Return a name for a kind of error that scripts can rely on, as in ``unknown_connection``."""
    words = re.findall("[A-Z][a-z]+|[A-Z]+(?=[A-Z][a-z]|$)", type(error).__name__)
    return "_".join(word.lower() for word in words if word != "Error")


def _print_json_error(code: str, message: str, hint: str) -> None:
    with suppress(OSError):  # it may be this output that failed
        print_json({"error": {"code": code, "message": message, "hint": hint}})


@click.group(cls=Cli, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ls-pipeline")
def main() -> None:
    """Load objects from S3 and GCS buckets as Label Studio tasks, and write the labels back."""


for command in (
    connections,
    demo,
    doctor,
    export,
    ledger,
    metrics,
    prune,
    quarantine,
    start,
    status,
    sync,
    webhooks,
):
    main.add_command(command)
