"""`nvmlsim`, or `python -m lab.nvmlsim`: make a simulated GPU server, and let things happen to it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from . import build, generate
from .control import STATE_VARIABLE, Kind, LoadCurve, NvmlsimError, Server, models, server

_DEFAULT_STATE = "/run/nvmlsim/state"
_KINDS = {"compute": Kind.COMPUTE, "graphics": Kind.GRAPHICS, "holder": Kind.HOLDER}
_FAULTS = (
    "lost",
    "temperature",
    "clocks-event-reasons",
    "rows-corrected",
    "rows-uncorrected",
    "rows-pending",
    "rows-failed",
    "pcie-width",
    "ecc-corrected",
    "ecc-uncorrected",
)


def _layout(text: str) -> tuple[int, list[str | tuple[str, int]]]:
    """`0=3g.40gb,2g.20gb@4`: GPU 0 in MIG mode, its instances, where `@` is given with their first memory slice."""
    gpu, _, slots = text.partition("=")
    found: list[str | tuple[str, int]] = []
    try:
        for slot in filter(None, slots.split(",")):
            profile, at, start = slot.partition("@")
            found.append((profile, int(start)) if at else profile)
        return int(gpu), found
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: GPU=PROFILE[@START],... is expected") from None


def _load(text: str) -> LoadCurve:
    try:
        if ":" not in text:
            return float(text)
        return [(float(at), float(load)) for at, _, load in (point.partition(":") for point in text.split(","))]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: PERCENT or SECONDS:PERCENT,... is expected") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nvmlsim", description=__doc__)
    parser.add_argument(
        "--state", type=Path, help=f"the server's file (default: ${STATE_VARIABLE} or {_DEFAULT_STATE})"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    if build.is_source():
        verbs.add_parser("build", help="build the library and fakecuda, and say where they are")
    verb = verbs.add_parser("create", help="make the server anew")
    verb.add_argument(
        "gpus", nargs="+", choices=sorted(models()), metavar="MODEL", help=f"one of {', '.join(models())}"
    )
    verb.add_argument("--layout", type=_layout, action="append", default=[], help="GPU=PROFILE[@START],...")
    verb.add_argument("--nodes", action="store_true", help="let device nodes decide what a process sees (root only)")
    verb = verbs.add_parser("boot", help="reboot the server that is there, or make one when there is none (with nodes)")
    verb.add_argument("gpus", nargs="+", choices=sorted(models()), metavar="MODEL", help="the models of a new one")
    verb = verbs.add_parser("list", help="show GPUs, instances and processes")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb = verbs.add_parser("attach", help="let a live process use a device")
    verb.add_argument("device", help="0, 0:1 or a UUID")
    verb.add_argument("pid", type=int, help="the process")
    verb.add_argument("--memory", type=int, default=512, metavar="MIB", help="how much it holds (default: 512)")
    verb.add_argument("--load", type=_load, default=100.0, help="PERCENT, or SECONDS:PERCENT,... (default: 100)")
    verb.add_argument("--loop", type=float, default=0.0, metavar="SECONDS", help="begin the load again after that")
    verb.add_argument("--kind", choices=sorted(_KINDS), default="compute", help="how it uses the device")
    verb = verbs.add_parser("detach", help="end what a process holds")
    verb.add_argument("pid", type=int, help="the process; 0: what nobody is seen to hold")
    verb.add_argument("device", nargs="?", help="only on this one")
    verb = verbs.add_parser("leak", help="let memory be taken that no process is seen to hold")
    verb.add_argument("device", help="0, 0:1 or a UUID")
    verb.add_argument("memory", type=int, metavar="MIB", help="how much")
    verb = verbs.add_parser("xid", help="report an Xid error")
    verb.add_argument("device", help="0, or 0:1 when it can be told whose it is")
    verb.add_argument("number", type=int, help="which")
    verb = verbs.add_parser("fault", help="set what is wrong with a GPU")
    verb.add_argument("gpu", type=int, help="its index")
    verb.add_argument("what", choices=_FAULTS, metavar="WHAT", help=", ".join(_FAULTS))
    verb.add_argument("value", type=int, help="how much; 0 ends most of them")
    verb = verbs.add_parser("reset", help="reset a GPU that nobody uses: a pending MIG mode becomes the current one")
    verb.add_argument("gpu", type=int, help="its index")
    verbs.add_parser("reboot", help="lose what a reboot loses")
    verb = verbs.add_parser("driver", help="load or unload the driver, let it hang, or answer again")
    verb.add_argument("what", choices=("load", "unload", "reload", "hang", "wake"), help="which")
    verb = verbs.add_parser("clock", help="let simulated time jump or pass faster")
    verb.add_argument("--jump", type=float, default=0.0, metavar="SECONDS", help="forward by that")
    verb.add_argument("--speed", type=float, default=0.0, metavar="FACTOR", help="from now on so many times as fast")
    return parser


def _library() -> Path | None:
    """What is built here; where the simulator is installed there is nothing to build, and it is the system's own."""
    return build.ensure() if build.is_source() else None


def _act(arguments: argparse.Namespace) -> None:
    if arguments.verb == "build":
        print(build.ensure().parent)
        return
    path = arguments.state or Path(os.environ.get(STATE_VARIABLE) or _DEFAULT_STATE)
    if arguments.verb == "create":
        server(path, arguments.gpus, dict(arguments.layout), nodes=arguments.nodes, library=_library())
        return
    found = Server(path, _library())
    if arguments.verb == "boot":
        if found.exists():
            found.reboot()
        else:
            server(path, arguments.gpus, nodes=True, library=_library())
        return
    match arguments.verb:
        case "list":
            state = found.state()
            print(json.dumps(state, indent=2) if arguments.json else _table(state))
        case "attach":
            kind = _KINDS[arguments.kind]
            memory = arguments.memory << 20
            found.attach(arguments.device, arguments.pid, memory, arguments.load, loop=arguments.loop, kind=kind)
        case "detach":
            found.detach(arguments.pid, arguments.device)
        case "leak":
            found.leak(arguments.device, arguments.memory << 20)
        case "xid":
            found.xid(arguments.device, arguments.number)
        case "fault":
            found.fault(arguments.gpu, arguments.what, arguments.value)
        case "reset":
            found.reset(arguments.gpu)
        case "reboot":
            found.reboot()
        case "driver":
            if arguments.what in {"hang", "wake"}:
                found.hang_driver(hangs=arguments.what == "hang")
                return
            if arguments.what != "load":
                found.unload_driver()
            if arguments.what != "unload":
                found.load_driver()
        case "clock":
            found.advance(arguments.jump)
            if arguments.speed:
                found.set_speed(arguments.speed)


def _table(state: dict[str, Any]) -> str:
    lines = [] if state["driver_loaded"] else ["the driver is not loaded"]
    for gpu in state["gpus"]:
        mode = "MIG" if gpu["mig"] else "whole"
        pending = " (MIG mode pending)" if gpu["mig"] != gpu["mig_pending"] else ""
        lost = " LOST" if gpu["lost"] else ""
        lines.append(f"{gpu['index']}  {gpu['model']}  {gpu['uuid']}  {mode}{pending}{lost}  {gpu['watts']:.0f} W")
        lines += _processes(gpu["processes"])
        for instance in sorted(gpu["instances"], key=lambda instance: int(instance["id"])):
            for part in instance["compute"]:
                where = f"instance {instance['id']}/{part['id']}  slice {instance['start']}:{instance['size']}"
                lines.append(f"   {instance['profile']}  {part['uuid']}  {where}")
                lines += _processes(part["processes"])
    return "\n".join(lines)


def _processes(processes: list[dict[str, Any]]) -> list[str]:
    return [
        f"      process {entry['pid']}  {entry['kind']}  {entry['memory'] >> 20} MiB  {entry['load']:.0f} %"
        for entry in processes
    ]


def main() -> int:
    """Run one verb; 0 when it worked, 1 with a sentence when it did not."""
    try:
        _act(_parser().parse_args())
    except (NvmlsimError, generate.BuildError) as error:
        print(f"nvmlsim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
