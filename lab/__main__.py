"""`python3 -m lab`: make, enter and remove lab hosts."""

from __future__ import annotations

import argparse
import re
import sys

from lab import deploy, engine, image, machine, scenarios, summary, venv
from lab.process import LabError, say

_NAME = re.compile(r"[a-z][a-z0-9-]{1,40}")


def _host_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: lower-case letters, digits and '-' are expected")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m lab", description="Lab hosts: whole DS01 servers to try things on."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (
        ("up", "make a host, deploy site.yml on it and show a summary"),
        ("down", "remove a host and all that is in it"),
        ("reboot", "restart a host and wait for it"),
        ("shell", "log in"),
        ("exec", "run a command as root"),
    ):
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("name", type=_host_name, help="the host's name")
        if verb == "up":
            sub.add_argument("--bare", action="store_true", help="only the empty host, nothing deployed")
            sub.add_argument("--vm", action="store_true", help="a virtual machine with a kernel of its own")
        if verb == "shell":
            sub.add_argument("user", nargs="?", default="root", help="who logs in (default: root)")
        if verb == "exec":
            sub.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    verbs.add_parser("image", help="build the host image, or say which one is there")
    sub = verbs.add_parser("test", help="run Molecule's scenarios")
    sub.add_argument("scenarios", nargs="*", help="which (default: all)")
    sub.add_argument("--beside", default="", metavar="COMMAND", help="a command to run beside them, from the beginning")
    verbs.add_parser("release", help="stop the engine, if the lab started it and it runs nothing")
    verbs.add_parser("clean", help="remove the host images")
    verbs.add_parser("venv", help="make .venv with the pinned requirements")
    return parser


def _act(arguments: argparse.Namespace) -> int:
    match arguments.verb:
        case "up":
            _up(arguments.name, vm=arguments.vm, bare=arguments.bare)
        case "down":
            if (found := machine.find(arguments.name)) is not None:
                found.down(arguments.name)
        case "reboot":
            machine.need(arguments.name).reboot(arguments.name)
        case "shell":
            return machine.need(arguments.name).shell(arguments.name, arguments.user)
        case "exec":
            return machine.need(arguments.name).execute(arguments.name, arguments.command or ["bash"])
        case "image":
            engine.ensure()
            print(image.ensure())
        case "test":
            scenarios.run_all(arguments.scenarios, arguments.beside)
        case "release":
            engine.release()
        case "venv":
            venv.ensure()
        case "clean":
            if engine.answers():
                image.remove()
    return 0


def _up(name: str, *, vm: bool, bare: bool) -> None:
    chosen = machine.kind(vm=vm)
    if machine.find(name) not in (None, chosen):
        raise LabError(f"{name}: is a lab host of the other kind: `python3 -m lab down {name}` first, or choose a name")
    chosen.up(name)
    if not bare:
        deploy.site(chosen, name)
        print(summary.of(chosen, name))


def main() -> int:
    """Run one verb; 0 when it worked, 1 with a sentence when it did not."""
    arguments = _parser().parse_args()
    try:
        return _act(arguments)
    except LabError as error:
        say(f"failed: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
