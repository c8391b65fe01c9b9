"""`vscode-setup`: how to work on this server, and in containers, with VS Code."""

from __future__ import annotations

import shlex
import sys

import click

from ds01.cli.container.removal import yes_option
from ds01.cli.devcontainer.make import found
from ds01.cli.guide import guided
from ds01.cli.output import OK
from ds01.cli.project import place
from ds01.cli.user import reach
from ds01.cli.wizard import step


@click.command()
@place.name_argument
@click.option("--devcontainer/--no-devcontainer", default=None,
              help="Write its devcontainer.json, unless there is one.  [default: ask, else yes]")  # fmt: skip
@reach.server_option
@yes_option
@guided(
    """VS Code runs on your computer and works here over ssh; with a second extension it works in a container here. It
    needs the lines for ~/.ssh/config, and for a project a devcontainer.json. Its own files here, in ~/.vscode-server,
    count in your quota.""",
    following="open the project with the command above",
)
def vscode(*, name: str | None, devcontainer: bool | None, server: str | None, yes: bool) -> int:
    """Say how to open a project with VS Code; write what it needs."""
    here = reach.server(server)
    project = place.existing(name)
    if found(project) is None and devcontainer is not False:
        asks = devcontainer is None and not yes and sys.stdin.isatty()
        question = f"Write {project.name}/.devcontainer/devcontainer.json?"
        wanted = click.confirm(question, default=True, err=True) if asks else True
        if wanted and (code := step("devcontainer-init", project.name)):
            return code
    remote = f"ssh-remote+{reach.ALIAS}"
    click.echo(
        f"""
On your computer:

1. Add this to ~/.ssh/config:

{here.config()}

2. Install VS Code and two extensions:

code --install-extension ms-vscode-remote.remote-ssh
code --install-extension ms-vscode-remote.remote-containers

3. Open the project here:

code --remote {remote} {shlex.quote(str(project))}

4. In VS Code press F1, then choose one of
   Dev Containers: Reopen in Container           a container for this project
   Dev Containers: Attach to Running Container   one that runs: `container list`"""
    )
    return OK
