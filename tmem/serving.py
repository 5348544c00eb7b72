"""Owns the command `tmem serve-metrics`: a small server of its own for Prometheus, for where no
process of the application answers it already."""

import click
from prometheus_client import CollectorRegistry, start_http_server

from engine.cli.addresses import Address, listening_at, serve_until_ended
from engine.cli.basics import attach, complete_arena, ended_by_signals
from tmem.metrics import TmemCollector

PORT = 9477


@click.command("serve-metrics")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_arena)
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, type=Address(), help="The address that it listens at.")
@click.option("--json", "as_json", is_flag=True, help="Say in JSON where it listens.")
def serve_metrics(names: tuple[str, ...], port: int, host: str, as_json: bool) -> None:
    """Answer Prometheus for the arenas NAME..., until interrupted.

    An arena that goes and comes back meanwhile is found again; until then its `tmem_up` is 0.
    """
    for name in names:
        attach(name).close()        # what is misspelled is said now, and not by a gauge
    registry = CollectorRegistry()
    registry.register(TmemCollector(*names))
    with listening_at(host, port):
        server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        with ended_by_signals():
            serve_until_ended(f"metrics of {', '.join(names)}", host, server.server_port, "/metrics", as_json)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
