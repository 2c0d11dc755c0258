"""``ls-pipeline webhooks``: the receiver of Label Studio's webhooks, in a process of its own."""

from __future__ import annotations

import click

from ls_pipeline.cli.console import err, print_lines
from ls_pipeline.cli.context import CliContext
from ls_pipeline.cli.options import PORT
from ls_pipeline.cli.servers.ports import choose_port
from ls_pipeline.resources.environment import webhook_secret

WEBHOOKS_EPILOG = """
\b
Examples:
  ls-pipeline webhooks                              for a Label Studio on this machine
  LS_PIPELINE_WEBHOOK_URL=https://labels.example.com/hooks ls-pipeline webhooks --port 3001
                                                    behind a proxy that ends TLS

\b
The secret that Label Studio shows is LS_PIPELINE_WEBHOOK_SECRET, else in the home. Each pass
registers LS_PIPELINE_WEBHOOK_URL in its project: set both where Dagster runs, too.
"""


@click.command(epilog=WEBHOOKS_EPILOG, short_help="Hear from Label Studio of new labels.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=PORT, default=3001, show_default=True, help="The port.")
def webhooks(host: str, port: int) -> None:
    """Receive Label Studio's webhooks, so that labels are exported within seconds.

    `ls-pipeline start` does so by itself for the Label Studio that it runs.
    """
    from ls_pipeline.cli.servers.webhook_receiver import serve  # slow

    ledger, port = CliContext().ledger, choose_port(port, port, host)
    shown = f"[{host}]" if ":" in host else host
    print_lines(f"Webhooks are received at http://{shown}:{port}", "Ctrl-C stops it.")
    try:
        serve(ledger, webhook_secret(), host, port)
    except KeyboardInterrupt:
        err.print("The receiver is stopped.")
