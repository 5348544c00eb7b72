"""Owns the page of the command line: what `tmem COMMAND --help` says, of every command."""
import click

from engine.cli.commands import main

HEAD = """# The command line

What `tmem COMMAND --help` says, of every command. `pip install 'tmem[cli]'` brings `tmem`. The exit
status is 0 if all is well, 1 if a problem was found, and 2 if the command was not understood.
"""


def page():
    """The page, as Markdown."""
    context = click.Context(main, info_name="tmem", terminal_width=88)
    parts = [HEAD]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        help_text = click.Context(command, info_name=name, parent=context, terminal_width=88).get_help()
        parts.append(f"## tmem {name}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)
