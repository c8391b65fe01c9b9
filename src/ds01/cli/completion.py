"""`ds01 completion`: what a shell needs to complete names, options, containers and images."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from ds01.cli.main import COMPLETE, NAME, cli
from ds01.host.names import THIN

_SHELLS: Final = ("bash", "zsh")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete our commands.

    For every shell of yours from now on, append it to ~/.bashrc or ~/.zshrc.
    """
    click.echo(script(shell), nl=False)


def script(shell: str, *, found_by_name: bool = False) -> str:
    """Return what a shell runs to complete our commands.

    Args:
        shell: bash or zsh.
        found_by_name: For zsh: whether it is in a file that the shell finds by itself when it first completes.
    """
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click knows both
    completer = found(cli, {}, NAME, COMPLETE)
    function, names = completer.func_name, " ".join((NAME, *THIN))
    text = completer.source().strip()
    if shell == "bash":
        # It asks the program whose arguments are typed, under the name that was typed.
        return f"{text}\ncomplete -o nosort -F {function} {names}\n"
    # Click's own end works once for a file: the second command that is completed would only be registered.
    text = text.partition("\n\nif [[ $zsh_eval_context")[0].partition("\n")[2]
    text = text.replace(f"={shell}_complete {NAME})", f"={shell}_complete $words[1])")
    end = f'{function} "$@"\n' if found_by_name else ""
    return f"#compdef {names}\n{text}\n\ncompdef {function} {names}\n{end}"
