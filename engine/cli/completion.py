"""Owns the command `tmem completion`: what a shell reads to complete commands, options and the
names of arenas."""
import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print what makes SHELL complete `tmem`.

    \b
    bash:  eval "$(tmem completion bash)"      in ~/.bashrc
    zsh:   eval "$(tmem completion zsh)"       in ~/.zshrc, after compinit
    fish:  tmem completion fish > ~/.config/fish/completions/tmem.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None and ctx.parent is not None
    made = kind(ctx.parent.command, {}, "tmem", "_TMEM_COMPLETE")
    # What source() does beside this is to ask the shell for its version.
    click.echo(made.source_template % made.source_vars())
