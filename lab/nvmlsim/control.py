"""Control of the simulated server, by the library's own functions: there is one implementation of its rules."""

from __future__ import annotations

import ctypes
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_HERE = Path(__file__).resolve().parent
STATE_VARIABLE = "NVMLSIM_STATE"
"""The environment variable that names the state file; without it, it is /run/nvmlsim/state."""

Layout = Iterable[str | tuple[str, int]]
"""Profiles, each alone (the driver chooses where) or with its first memory slice."""

LoadCurve = float | Sequence[tuple[float, float]]
"""Percent; or from when on (seconds after the start, beginning with 0) how many percent."""


class NvmlsimError(Exception):
    """What was wrong, in words; `code` is NVML's return code."""

    def __init__(self, code: int, text: str) -> None:
        """Keep both."""
        super().__init__(text)
        self.code = code


class Kind(IntEnum):
    """How a process uses a device: as C's `enum claim_kind`."""

    COMPUTE = 1
    GRAPHICS = 2
    HOLDER = 3
    """It has the device open and nothing on it, as a monitoring daemon."""
    NOBODY = 4
    """Memory that no process is seen to hold."""


class _Load(ctypes.Structure):
    _fields_ = (
        ("at", ctypes.POINTER(ctypes.c_double)),
        ("percent", ctypes.POINTER(ctypes.c_double)),
        ("count", ctypes.c_uint),
        ("loop", ctypes.c_double),
    )


def models() -> dict[str, Any]:
    """The table of models, by their names."""
    data: dict[str, Any] = tomllib.loads((_HERE / "models.toml").read_text(encoding="utf-8"))["models"]
    return data


class Server:
    """A simulated server, in a state file that all processes share.

    It is the server of this process from the moment of each call on: `NVMLSIM_STATE` is set in the environment.
    """

    def __init__(self, path: Path, library: Path | None = None) -> None:
        """Use the server in this file, there or still to be created.

        Args:
            path: The state file.
            library: The library to load; the system's own when None.
        """
        self.path = path
        self._library = ctypes.CDLL(str(library) if library else _LIBRARY)
        self._library.nvmlsim_error.restype = ctypes.c_char_p
        self._library.nvmlsim_dump.restype = ctypes.c_void_p
        self._library.nvmlsim_free.argtypes = [ctypes.c_void_p]

    def exists(self) -> bool:
        """Whether there is a server in the file that this build of the library can use."""
        self._select()
        text = self._library.nvmlsim_dump()
        self._library.nvmlsim_free(text)
        return bool(text)

    def create(self, *, nodes: bool = False) -> None:
        """Make the server anew, without GPUs.

        Args:
            nodes: Device nodes decide what a process sees, as on a real host. Needs root.

        Raises:
            NvmlsimError: The file cannot be written.
        """
        self._call("create", ctypes.c_int(nodes))

    def add_gpu(self, model: str) -> None:
        """Put in one more GPU.

        Raises:
            NvmlsimError: There is no such model, or no more room.
        """
        self._call("add_gpu", model.encode())

    def set_mig(self, gpu: int, *, enabled: bool) -> None:
        """Have a GPU in this mode, whatever it was doing; `reset` is what asks first."""
        self._call("set_mig", ctypes.c_uint(gpu), ctypes.c_uint(enabled))

    def add_instance(self, gpu: int, profile: str, start: int | None = None) -> None:
        """Make an instance with one compute instance that fills it.

        Raises:
            NvmlsimError: No such profile, no MIG mode, or it does not fit.
        """
        self._call("add_instance", ctypes.c_uint(gpu), profile.encode(), ctypes.c_int(-1 if start is None else start))

    def attach(
        self,
        device: str,
        pid: int,
        memory: int,
        load: LoadCurve = 100.0,
        *,
        loop: float = 0.0,
        kind: Kind = Kind.COMPUTE,
    ) -> None:
        """Let a live process use a device. What it has ends with it.

        Args:
            device: 0, 0:1 or a UUID.
            pid: The process; its parent must have collected it when it is meant to be gone.
            memory: Bytes.
            load: What it makes the device do.
            loop: After how many seconds the load begins again; 0 keeps its last value.
            kind: How it uses the device.

        Raises:
            NvmlsimError: No such device or process, no memory left, or a GPU in MIG mode is named as a whole.
        """
        points = [(0.0, load)] if isinstance(load, (int, float)) else list(load)
        numbers = ctypes.c_double * len(points)
        given = _Load(numbers(*(at for at, _ in points)), numbers(*(value for _, value in points)), len(points), loop)
        self._call(
            "attach",
            device.encode(),
            ctypes.c_int(pid),
            ctypes.c_uint(kind),
            ctypes.c_uint64(memory),
            ctypes.byref(given),
        )

    def leak(self, device: str, memory: int) -> None:
        """Let bytes be taken that no process is seen to hold; `detach(0)` gives them back."""
        self.attach(device, 0, memory, 0, kind=Kind.NOBODY)

    def detach(self, pid: int, device: str | None = None) -> None:
        """End what a process holds, on one device or on all.

        Raises:
            NvmlsimError: It holds nothing there.
        """
        self._call("detach", None if device is None else device.encode(), ctypes.c_int(pid))

    def xid(self, device: str, number: int) -> None:
        """Report an Xid error: of one instance when a MIG device is named, of the GPU otherwise."""
        self._call("xid", device.encode(), ctypes.c_uint64(number))

    def fault(self, gpu: int, what: str, value: int) -> None:
        """Set what is wrong with a GPU.

        Args:
            gpu: Its index.
            what: lost, temperature (C; 0: follows the load), clocks-event-reasons (bits), rows-corrected,
                rows-uncorrected, rows-pending, rows-failed, pcie-width, ecc-corrected or ecc-uncorrected (how many).
            value: How much.

        Raises:
            NvmlsimError: No such GPU or fault.
        """
        self._call("fault", ctypes.c_uint(gpu), what.encode(), ctypes.c_uint64(value))

    def reset(self, gpu: int) -> None:
        """Reset a GPU as `nvidia-smi --gpu-reset` does: the pending mode becomes the current one.

        Raises:
            NvmlsimError: A process uses it.
        """
        self._call("reset", ctypes.c_uint(gpu))

    def reboot(self) -> None:
        """Lose what a reboot loses: instances everywhere, and on Hopper MIG mode; processes; energy counters."""
        self._call("reboot")

    def unload_driver(self) -> None:
        """Have no driver: NVML does not start, and whoever has it open gets DRIVER_NOT_LOADED."""
        self._call("driver", ctypes.c_int(0))

    def load_driver(self) -> None:
        """Load the driver (again): instances are gone, counters begin anew, NVML has to be opened anew."""
        self._call("driver", ctypes.c_int(1))

    def hang_driver(self, *, hangs: bool = True) -> None:
        """Let every call of NVML wait, or answer those that wait: what a stuck driver does.

        Raises:
            NvmlsimError: There is no driver.
        """
        self._call("hang", ctypes.c_int(hangs))

    def advance(self, seconds: float) -> None:
        """Let simulated time jump."""
        self._call("clock", ctypes.c_double(seconds), ctypes.c_double(0))

    def set_speed(self, factor: float) -> None:
        """Let simulated time pass so many times as fast."""
        self._call("clock", ctypes.c_double(0), ctypes.c_double(factor))

    def state(self) -> dict[str, Any]:
        """The whole server: GPUs, instances, processes, who keeps a GPU from a reset. As `nvmlsim list --json`.

        Raises:
            NvmlsimError: There is none in this file.
        """
        self._select()
        text = self._library.nvmlsim_dump()
        if not text:
            raise NvmlsimError(0, f"{self.path}: no such server: create one first")
        try:
            state: dict[str, Any] = json.loads(ctypes.string_at(text))
        finally:
            self._library.nvmlsim_free(text)
        return state

    def device_uuid(self, device: str) -> str:
        """The UUID of a device that is named as people do: 0 or 0:1.

        Raises:
            NvmlsimError: There is none.
        """
        index, _, number = device.partition(":")
        for gpu in self.state()["gpus"]:
            if gpu["index"] == int(index):
                if not number:
                    return str(gpu["uuid"])
                found = sorted(gpu["instances"], key=lambda instance: int(instance["id"]))
                uuids = [str(part["uuid"]) for instance in found for part in instance["compute"]]
                if int(number) < len(uuids):
                    return uuids[int(number)]
        raise NvmlsimError(6, f"{device}: no such device")

    def _select(self) -> None:
        os.environ[STATE_VARIABLE] = str(self.path)

    def _call(self, name: str, *arguments: Any) -> None:
        self._select()
        code = int(getattr(self._library, f"nvmlsim_{name}")(*arguments))
        if code != 0:
            raise NvmlsimError(code, self._library.nvmlsim_error().decode(errors="replace"))


def server(
    path: Path,
    gpus: Sequence[str],
    layouts: Mapping[int, Layout] | None = None,
    *,
    nodes: bool = False,
    library: Path | None = None,
) -> Server:
    """Make a server.

    Args:
        path: Its state file; its directory exists.
        gpus: The models, one for each GPU.
        layouts: The instances of GPUs that are in MIG mode, by index; an empty one means MIG mode alone.
        nodes: Device nodes decide what a process sees.
        library: The library to load; the system's own when None.

    Raises:
        NvmlsimError: Anything of this is impossible.
    """
    made = Server(path, library)
    made.create(nodes=nodes)
    for model in gpus:
        made.add_gpu(model)
    for gpu, layout in (layouts or {}).items():
        made.set_mig(gpu, enabled=True)
        for slot in layout:
            made.add_instance(gpu, *((slot,) if isinstance(slot, str) else slot))
    return made
