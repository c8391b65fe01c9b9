"""`nvidia-ctk` of a lab host: the part of NVIDIA's command that writes the CDI specification of what the host has.

It is installed under that name, so that what calls it on a real host calls it here, and it writes the same shape: a
name for each GPU and MIG device by index and by UUID, and `all`. The library needs no hook to be found in a container.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from .control import NvmlsimError, Server

VERSION = "1.18.1"
DRIVER_VERSION = "580.95.05"
KIND = "nvidia.com/gpu"
STRATEGIES = ("index", "uuid")
STATE = Path("/run/nvmlsim/state")
LIBRARY_DIRECTORY = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
FAKECUDA = Path("/usr/bin/fakecuda")

_SPEC_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_COMMON_NODES = ("/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl")
_READ_ONLY = ["ro", "nosuid", "nodev", "rbind", "rprivate"]


def specification(state: dict[str, Any], strategies: Collection[str] = STRATEGIES) -> dict[str, Any]:
    """The CDI specification of a server, as `Server.state` describes it, with these kinds of names."""
    devices: list[dict[str, Any]] = []
    every: dict[str, None] = {}
    for index, uuid, nodes in _devices(state):
        every.update(dict.fromkeys(nodes))
        names = {"index": index, "uuid": uuid}
        devices += [{"name": names[kind], "containerEdits": _nodes(nodes)} for kind in STRATEGIES if kind in strategies]
    devices.append({"name": "all", "containerEdits": _nodes(list(every))})
    common = _nodes(list(_COMMON_NODES))
    common["env"] = ["NVIDIA_VISIBLE_DEVICES=void"]
    common["mounts"] = _mounts()
    return {"cdiVersion": "0.5.0", "kind": KIND, "devices": devices, "containerEdits": common}


def _devices(state: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Index, UUID and nodes of each device. A GPU in MIG mode has its names too; by them nothing can be computed."""
    for gpu in state["gpus"]:
        node = f"/dev/nvidia{gpu['index']}"
        yield str(gpu["index"]), gpu["uuid"], [node]
        instances = sorted(gpu["instances"], key=lambda instance: int(instance["id"]))
        parts = [(instance, part) for instance in instances for part in instance["compute"]]
        for index, (instance, part) in enumerate(parts):
            capabilities = [f"/dev/nvidia-caps/nvidia-cap{it['capability']}" for it in (instance, part)]
            yield f"{gpu['index']}:{index}", part["uuid"], [node, *capabilities]


def _nodes(paths: list[str]) -> dict[str, Any]:
    return {"deviceNodes": [{"path": path} for path in paths]}


def _mounts() -> list[dict[str, Any]]:
    library = LIBRARY_DIRECTORY / "libnvidia-ml.so.1"
    read_only = [(library, library), (FAKECUDA, FAKECUDA), (Path("/proc/locks"), STATE.with_name("locks"))]
    mounts = [_mount(source, target, _READ_ONLY) for source, target in read_only]
    # A driver is the kernel's part of what is in the container; ours is this file.
    return [*mounts, _mount(STATE, STATE, ["nosuid", "nodev", "rbind", "rprivate"])]


def _mount(source: Path, target: Path, options: list[str]) -> dict[str, Any]:
    return {"hostPath": str(source), "containerPath": str(target), "options": options}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nvidia-ctk", description=__doc__)
    parser.add_argument("--version", "-v", action="version", version=f"NVIDIA Container Toolkit CLI version {VERSION}")
    parser.add_argument("--debug", action="store_true", help="say more (there is nothing more to say here)")
    cdi = parser.add_subparsers(dest="command", required=True).add_parser("cdi", help="container device interface")
    verbs = cdi.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("generate", help="write the specification of this host")
    verb.add_argument("--output", type=Path, help="the file (default: standard output)")
    verb.add_argument("--device-name-strategy", action="append", choices=STRATEGIES, help="how devices are named")
    verb.add_argument("--format", choices=("yaml",), default="yaml", help="how it is written")
    verb = verbs.add_parser("list", help="list the devices of the specifications there are")
    verb.add_argument("--spec-dir", type=Path, action="append", help="where (default: /etc/cdi, /var/run/cdi)")
    return parser


def _generate(output: Path | None, strategies: Collection[str]) -> None:
    state = Server(STATE).state()
    if not state["driver_loaded"]:
        raise NvmlsimError(9, "failed to initialize NVML: Driver Not Loaded")
    text = "---\n" + yaml.safe_dump(specification(state, strategies), sort_keys=False)
    if output is None:
        sys.stdout.write(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(output)


def _list(directories: list[Path]) -> None:
    names = {
        f"{spec['kind']}={device['name']}"
        for directory in directories
        for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.json")])
        for spec in [yaml.safe_load(path.read_text(encoding="utf-8"))]
        for device in spec["devices"]
    }
    print(f"INFO[0000] Found {len(names)} CDI devices", file=sys.stderr)
    for name in sorted(names):
        print(name)


def main() -> int:
    """Run one command; 0 when it worked, 1 with a sentence when it did not."""
    arguments = _parser().parse_args()
    try:
        if arguments.verb == "generate":
            _generate(arguments.output, arguments.device_name_strategy or STRATEGIES)
        else:
            _list(arguments.spec_dir or list(_SPEC_DIRECTORIES))
    except (NvmlsimError, OSError) as error:
        print(f"nvidia-ctk: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
