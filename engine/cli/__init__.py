"""The command line, and what to install where its libraries are not."""
import sys

try:
    import click  # noqa: F401
    import rich  # noqa: F401
except ImportError as missing:
    print(f"tmem: the command line needs {missing.name}: pip install 'tmem[cli]'", file=sys.stderr)
    sys.exit(2)

from engine.cli.commands import main

__all__ = ["main"]
