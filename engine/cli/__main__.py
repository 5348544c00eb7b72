"""Owns `python -m engine.cli`. Calls commands.py."""
from engine.cli.commands import main

main()
