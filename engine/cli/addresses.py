"""Owns where a command that serves listens: which address it may be told, what it says of it, and
that it goes on until it is ended."""
import contextlib
import json
import signal
from collections.abc import Iterator

import click


class Address(click.types.StringParamType):
    """Where a server listens. "" would be all addresses of the machine, and is mostly a variable
    that is not set."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            usable = bool(value) and bool(value.encode("idna"))
        except UnicodeError:
            usable = False
        if not usable:
            self.fail(f"an address or a host's name, such as 127.0.0.1, or 0.0.0.0 for all, not {value!r}", param, ctx)
        return value


@contextlib.contextmanager
def listening_at(host: str, port: int) -> Iterator[None]:
    """What is done in here listens; where that cannot be, the error names the options."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(f"--host, --port: cannot listen at {host}:{port}: {error.strerror}") from None


def serve_until_ended(what: str, host: str, port: int, path: str, as_json: bool) -> None:
    """Say where it listens, and wait for the signal that ends it, which raises."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    click.echo(json.dumps({"url": url}) if as_json else f"{what}: {url}")
    while True:
        signal.pause()
