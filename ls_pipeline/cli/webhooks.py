"""``ls-pipeline webhooks``: runs the webhook receiver in its own process."""

from __future__ import annotations

import click

from ls_pipeline.cli.console import err, print_lines
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import PORT, verbatim
from ls_pipeline.cli.servers.ports import choose_port
from ls_pipeline.resources.environment import webhook_secret

EPILOG = verbatim("""
Examples:
  ls-pipeline webhooks                              for a Label Studio on this machine
  LS_PIPELINE_WEBHOOK_URL=https://labels.example.com/hooks ls-pipeline webhooks --port 3001
                                                    behind a proxy that terminates TLS

Each run registers LS_PIPELINE_WEBHOOK_URL in its Label Studio project, with the secret
LS_PIPELINE_WEBHOOK_SECRET. Set both for Dagster's processes, too. If there is no such secret,
one is created in the home.
""")


@click.command(epilog=EPILOG, short_help="Receive Label Studio's webhooks.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=PORT, default=3001, show_default=True, help="The port to listen on.")
def webhooks(host: str, port: int) -> None:
    """Receive Label Studio's webhooks, so that labels are exported within seconds.

    `ls-pipeline start` runs this receiver for the Label Studio that it starts.
    """
    from ls_pipeline.cli.servers.webhook_receiver import serve  # slow

    ledger, port = CliContext().ledger, choose_port(port, port, host)
    url_host = f"[{host}]" if ":" in host else host
    print_lines(f"Receiving webhooks at http://{url_host}:{port}", "To stop, press Ctrl-C.")
    try:
        serve(ledger, webhook_secret(), host, port)
    except KeyboardInterrupt:
        err.print("Stopped.")
