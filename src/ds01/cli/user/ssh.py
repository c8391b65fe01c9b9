"""`ssh-setup`: a key of one's own here, keys that may log in, and what one's own computer needs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from ds01.cli.container.removal import yes_option
from ds01.cli.guide import guided
from ds01.cli.output import OK
from ds01.cli.person import own_home
from ds01.cli.project.place import tilde
from ds01.cli.user import reach
from ds01.cli.values import content
from ds01.problems import ReportedError, shown
from ds01.users import keys
from ds01.users.identity import UnsafeError, open_owned_directory
from ds01.users.spec import key_blob, key_fault

_KEY: Final = "id_ed25519"
_OTHERS: Final = ("id_ecdsa", "id_rsa")


class SshError(ReportedError):
    """A key that cannot be made or taken."""


@click.command()
@click.option("--key/--no-key", default=None, help="Make a key here, unless there is one.  [default: ask, else yes]")
@click.option("--add-key", metavar="FILE", help="Let the public keys of a file log in, too; - reads what is typed.")
@reach.server_option
@yes_option
@guided(
    """You log in with a key: its public half is here, its private half stays on your computer. The administrator's list
    has the keys that you handed in; you may add others, say of a second computer. A key made on this server is
    another thing: with it you go on from here, to GitHub for instance.""",
    following="`vscode-setup` says how to work here with VS Code",
)
def ssh(*, key: bool | None, add_key: str | None, server: str | None, yes: bool) -> int:
    """Set up ssh: your keys here, and your computer."""
    found = reach.server(server)
    added = [] if add_key is None else _read(add_key)
    directory = own_home() / ".ssh"
    there = next((directory / name for name in (_KEY, *_OTHERS) if (directory / name).exists()), None)
    if key is None and there is None:
        asks = not yes and sys.stdin.isatty()
        key = click.confirm("Make a key here, for git and other servers?", default=True, err=True) if asks else True
    if there is None and key:
        _private(directory)
        there = _made(directory / _KEY, f"{found.user}@{found.host}")
        click.echo(f"made a key: {tilde(there)}")
    elif there is not None:
        click.echo(f"your key here is {tilde(there)}")
    if there is not None:
        _say_public(there)
    _authorize(added)
    click.echo(f"\nOn your computer, add this to ~/.ssh/config; then `ssh {reach.ALIAS}` brings you here:\n")
    click.echo(found.config())
    return OK


def _private(directory: Path) -> None:
    """Make ~/.ssh, or close it to others: ssh uses no key that others could change."""
    directory.mkdir(mode=0o700, exist_ok=True)
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        directory.chmod(0o700)
        click.echo(f"{tilde(directory)} is yours alone now; others had access")


def _made(path: Path, comment: str) -> Path:
    """Make a key, whole or not at all, and never in place of one that is there."""
    public = path.with_suffix(".pub")
    if public.exists():
        raise SshError(f"{tilde(public)}: is here without its private half: rename it, then try again")
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SshError("ssh-keygen: is not installed here: ask the administrator for it (apt install openssh-client)")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
        fresh = Path(scratch, path.name)
        done = subprocess.run(
            [program, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(fresh)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise SshError(f"ssh-keygen: {(done.stderr or done.stdout).strip() or 'failed'}: no key was made")
        os.link(fresh.with_suffix(".pub"), public)
        os.link(fresh, path)
    return path


def _say_public(path: Path) -> None:
    public = path.with_suffix(".pub")
    try:
        click.echo(
            f"its public half, for GitHub and others ({tilde(public)}):\n{public.read_text(errors='replace').strip()}"
        )
    except OSError:
        click.echo(f"note: its public half is missing: `ssh-keygen -y -f {tilde(path)} >{tilde(public)}`", err=True)


def _read(file: str) -> list[str]:
    """Return the public keys of a file. Raises click.UsageError."""
    text = sys.stdin.read() if file == "-" else content(file, "--add-key").decode(errors="replace")
    if "PRIVATE KEY" in text:
        raise click.UsageError(f"--add-key: {shown(file)}: a private key, which nobody else may see: give FILE.pub")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if (fault := key_fault(line)) is not None:
            raise click.UsageError(f"--add-key: {shown(line)}: not a public key: expected {fault}")
    if not lines:
        raise click.UsageError(f"--add-key: {shown(file)}: there is no key in it")
    return lines


def _authorize(added: list[str]) -> None:
    """Add keys beside the administrator's, by the rules of whoever keeps those; and say how many there are."""
    uid, gid = os.getuid(), os.getgid()
    try:
        home = open_owned_directory(str(own_home()), uid)
        try:
            text = keys.read(home, uid, gid) or ""
            listed = keys.block(text)
            present = {key_blob(line) for line in text.splitlines() if key_fault(line) is None}
            fresh = [line for line in added if key_blob(line) not in present]
            if fresh:
                body = text if not text or text.endswith("\n") else text + "\n"
                text = keys.merge(body + "".join(f"{line}\n" for line in fresh), listed)
                keys.write(home, uid, gid, text)
        finally:
            os.close(home)
    except UnsafeError as error:
        raise SshError(f"{error}: nothing is changed there") from error
    count = sum(key_fault(line) is None for line in text.splitlines())
    if added:
        click.echo(f"{len(fresh)} of {len(added)} keys are new and may log in now")
    click.echo(f"keys that may log in as you: {count}, of these {len(listed)} by the administrator's list")
