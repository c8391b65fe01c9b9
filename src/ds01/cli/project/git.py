"""`git-init`: a repository for a project, with what should not be in it left out."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import click

from ds01.cli.guide import guided
from ds01.cli.output import OK
from ds01.cli.person import caller
from ds01.cli.project import place
from ds01.problems import ReportedError, shown

if TYPE_CHECKING:
    from pathlib import Path

_IGNORED: Final = """# Large, made again by the code, or secret
/data/
/models/
/results/
__pycache__/
*.pyc
.ipynb_checkpoints/
.venv/
wandb/
.env
"""
_LARGE: Final = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n"
    for ending in ("ckpt", "h5", "npz", "onnx", "pt", "pth", "safetensors")
)


class GitError(ReportedError):
    """What git says when it cannot."""


@click.command()
@place.name_argument
@click.option("--user", "user_name", metavar="NAME", help="Who commits.  [default: as git knows you]")
@click.option("--email", metavar="ADDRESS", help="Their address.  [default: as git knows you]")
@click.option("--remote", metavar="URL", help="Where it is pushed to.")
@click.option("--lfs/--no-lfs", default=True, help="Keep large files with git LFS, if it is installed.  [default: yes]")
@guided(
    """Git keeps every version of your code. This makes the project's directory a repository, tells git to leave out
    data, models and results, and says who you are if git does not know yet. Nothing is sent anywhere.""",
    following="`git add --all && git commit -m Begin`, in ~/workspace/{name}",
)
def git(*, name: str | None, user_name: str | None, email: str | None, remote: str | None, lfs: bool) -> int:
    """Make a project a git repository."""
    if shutil.which("git") is None:
        raise GitError("git: is not installed here: ask the administrator for it (apt install git)")
    where = place.existing(name)
    is_one = (where / ".git").exists()
    origin = _said(where, "remote", "get-url", "origin") if is_one else ""
    if remote is not None and (remote.startswith("-") or not remote.isprintable() or not remote):
        raise click.UsageError(f"--remote: {shown(remote)}: not an address like git@github.com:me/project.git")
    if remote and origin not in {"", remote}:
        raise GitError(f"{place.tilde(where)}: pushes to {origin} already: `git remote set-url origin {remote}`")
    identity = {"user.name": user_name, "user.email": email}
    unknown = [key for key, given in identity.items() if not (given or _said(where, "config", key))]
    if sys.stdin.isatty():
        # All questions come first: whoever goes away now leaves nothing behind.
        identity |= {key: _asked(key) for key in unknown}
        unknown = []
    if not is_one:
        _done(where, "init", "--quiet", "--initial-branch=main")
    click.echo(f"{place.tilde(where)} is a git repository{' already' if is_one else ' now'}")
    for key, value in identity.items():
        if value:
            _done(where, "config", key, value)
    place.write_new(where / ".gitignore", _IGNORED)
    if lfs:
        _keep_large(where)
    if remote and not origin:
        _done(where, "remote", "add", "origin", remote)
        click.echo(f"pushes to {remote}")
    if unknown:
        click.echo(f"note: git does not know who you are: `git config --global {unknown[0]} ...`", err=True)
    return OK


def _asked(key: str) -> str:
    login = caller()
    if key == "user.name":
        name = pwd.getpwnam(login).pw_gecos.partition(",")[0] or login
        return str(click.prompt("Your name in commits", default=name, err=True))
    return str(click.prompt("Your address in commits", default=login if "@" in login else None, err=True))


def _keep_large(where: Path) -> None:
    if shutil.which("git-lfs") is None:
        click.echo("note: git LFS is not installed, so git keeps no large files here", err=True)
        return
    _done(where, "lfs", "install", "--local")
    place.write_new(where / ".gitattributes", _LARGE)


def _run(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=where, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def _said(where: Path, *arguments: str) -> str:
    """Return what git says, "" if it has nothing to say."""
    return _run(where, *arguments).stdout.strip()


def _done(where: Path, *arguments: str) -> None:
    found = _run(where, *arguments)
    if found.returncode != 0:
        raise GitError(f"git {arguments[0]}: {found.stderr.strip() or 'failed'}")
