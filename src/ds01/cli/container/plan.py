"""What a container will be: one description, for the engine's request and for the equivalent `docker run`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ds01.cli.container.naming import IMAGE_LABEL, private_tag
from ds01.host.names import PROJECT_LABEL, REQUEST_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01.cli.container.person import Person

WAIT_LABEL: Final = "ds01.wait"
STOP_S: Final = 60
"""Seconds that processes have to end, for every client's stop; the gateway allows no more."""
_MLC_VERSION: Final = "4"
KEEP_ALIVE: Final = r"""# Process 1: it waits, and at a stop it gives all others the time to end.
busy() {
  local file key value rest
  for file in /proc/[0-9]*/status; do
    [ "$file" = /proc/1/status ] && continue
    while read -r key value rest; do
      # What is dead, or a shell that ignores the signal, is not waited for.
      [ "$key$value" = State:Z ] && break
      [ "$key" = SigIgn: ] && ((!(0x$value & 0x4000))) && return 0
    done 2>/dev/null <"$file"
  done
  return 1
}
end() {
  trap : TERM
  kill -TERM -1 2>/dev/null
  while busy; do read -r -t 0.2 -u 3; done
  exit 0
}
trap end TERM
exec 3<> <(:)
while :; do read -r -u 3; done
"""
"""One process and no child: AIME's `mlc-open` stops a container when it sees only one process after the last shell."""


@dataclass(frozen=True)
class Gpus:
    """What is asked for. `count` None is as many as the person may have."""

    count: int | None = 1
    profile: str = ""
    memory: str = ""
    full: bool = False
    """Whether a full GPU is preferred to a part of one."""

    def options(self) -> dict[str, str]:
        """Return the options of a device request that the gateway knows."""
        options = {"profile": self.profile, "memory": self.memory, "full": "true" if self.full else ""}
        return {name: value for name, value in options.items() if value}

    def __str__(self) -> str:
        """Return it in words."""
        if self.count == 0:
            return "none"
        least = f", at least {self.memory} each" if self.memory else ""
        full = ", full ones if possible" if self.full else ""
        return f"{'as many as allowed' if self.count is None else self.count} x {self.profile or 'GPU'}{least}{full}"


@dataclass(frozen=True)
class Mount:
    """A directory of the host in the container."""

    source: str
    target: str
    writable: bool = True

    def __str__(self) -> str:
        """Return it as `docker run -v` reads it."""
        return f"{self.source}:{self.target}" + ("" if self.writable else ":ro")


@dataclass(frozen=True)
class Plan:
    """One container."""

    name: str
    image: str
    person: Person
    workspace: Mount
    data: Mount | None = None
    models: Mount | None = None
    gpus: Gpus = field(default_factory=Gpus)
    wait: str = ""
    environment: tuple[str, ...] = ()
    ports: tuple[tuple[str, str], ...] = ()
    """Port of the host ("" for any) and of the container."""
    volumes: tuple[Mount, ...] = ()
    """Further directories."""
    command: tuple[str, ...] = ()
    """The one program that it is for, with which it ends and is gone; () for a container that stays."""
    terminal: bool = True
    """Whether that program has one."""
    project: str = ""
    """What it belongs to; empty for a container of no project."""

    @property
    def tag(self) -> str:
        """The image's name that only this container uses."""
        return private_tag(self.image, self.name, self.person.uid)

    @property
    def hostname(self) -> str:
        """What the container calls itself."""
        return re.sub(r"[^a-zA-Z0-9-]", "-", self.name).strip("-")

    def mounts(self) -> list[Mount]:
        """Return all that is mounted."""
        return [mount for mount in (self.workspace, self.data, self.models, *self.volumes) if mount is not None]

    def variables(self) -> list[str]:
        """Return the environment."""
        person = self.person
        known = {"HOME": person.home, "USER": person.name, "LOGNAME": person.name, "SHELL": "/bin/bash"}
        return [*(f"{name}={value}" for name, value in known.items()), *self.environment]

    def labels(self, inherited: Mapping[str, str], request: str) -> dict[str, str]:
        """Return the labels: AIME's, ours, and the image's where a comma would break AIME's tools for everybody."""
        framework = self.image.rpartition("/")[2].partition("@")[0].replace(":", "-")
        ours = {
            "aime.mlc": self.person.name, "aime.mlc.USER": self.person.name, "aime.mlc.NAME": self.name,
            "aime.mlc.FRAMEWORK": framework, "aime.mlc.ARCH": "-", "aime.mlc.MLC_VERSION": _MLC_VERSION,
            "aime.mlc.WORK_MOUNT": self.workspace.source,
            "aime.mlc.DATA_MOUNT": self.data.source if self.data else "-",
            "aime.mlc.MODELS_MOUNT": self.models.source if self.models else "-",
            "aime.mlc.GPUS": "all" if self.gpus.count is None else str(self.gpus.count),
            IMAGE_LABEL: self.image, REQUEST_LABEL: request,
        }  # fmt: skip
        if self.wait:
            ours[WAIT_LABEL] = self.wait
        if self.project:
            ours[PROJECT_LABEL] = self.project
        split = {name: value for name, value in inherited.items() if "," in value and not name.startswith("ds01.")}
        return {name: value.replace(",", ";") for name, value in (split | ours).items()}

    def body(self, labels: Mapping[str, str]) -> dict[str, Any]:
        """Return the engine's request."""
        host: dict[str, Any] = {"Binds": [str(mount) for mount in self.mounts()]}
        if self.person.groups:
            host["GroupAdd"] = [str(gid) for gid in self.person.groups]
        if self.ports:
            host["PortBindings"] = {f"{inner}/tcp": [{"HostPort": outer}] for outer, inner in self.ports}
        if self.gpus.count != 0:
            count = -1 if self.gpus.count is None else self.gpus.count
            request = {"Count": count, "Capabilities": [["gpu"]], "Options": self.gpus.options()}
            host["DeviceRequests"] = [request]
        program, terminal = ["bash", "-c", KEEP_ALIVE], True
        if self.command:
            # The engine's own process 1, because many programs take no signals as that.
            host |= {"AutoRemove": True, "Init": True}
            program, terminal = [*self.command], self.terminal
        return {
            "Image": self.tag, "Hostname": self.hostname, "User": f"{self.person.uid}:{self.person.gid}",
            "Entrypoint": program, "Cmd": [], "Tty": terminal, "OpenStdin": True, "StdinOnce": bool(self.command),
            "WorkingDir": "/workspace", "Env": self.variables(), "Labels": dict(labels), "StopSignal": "SIGTERM",
            "StopTimeout": STOP_S, "ExposedPorts": {f"{inner}/tcp": {} for _, inner in self.ports}, "HostConfig": host,
        }  # fmt: skip

    def docker_run(self) -> list[str]:
        """Return the equivalent `docker run`, which lacks only the entry in the container's list of users."""
        words = ["docker", "run"]
        words += ["--rm", "--init", "--interactive"] if self.command else ["--detach"]
        words += ["--tty"] if self.command and self.terminal else []
        words += ["--name", self.name, "--user", f"{self.person.uid}:{self.person.gid}"]
        words += [word for gid in self.person.groups for word in ("--group-add", str(gid))]
        words += [word for mount in self.mounts() for word in ("--volume", str(mount))]
        words += [word for outer, inner in self.ports for word in ("--publish", f"{outer}:{inner}".lstrip(":"))]
        words += ["--workdir", "/workspace"]
        words += [word for variable in self.variables() for word in ("--env", variable)]
        if self.gpus.count != 0:
            words += ["--gpus", self._gpus_option()]
        if self.wait:
            words += ["--label", f"{WAIT_LABEL}={self.wait}"]
        # An entrypoint of the image's does not come first here.
        words += ["--stop-timeout", str(STOP_S), "--entrypoint", ""]
        return [*words, self.image, *(self.command or ("sleep", "infinity"))]

    def _gpus_option(self) -> str:
        count = "all" if self.gpus.count is None else str(self.gpus.count)
        options = ",".join(f"{name}={value}" for name, value in self.gpus.options().items())
        if not options:
            return count
        # A list in a list: docker reads both as CSV.
        return f'"count={count}","options={options}"'


def mounted(directory: str, target: str) -> Mount:
    """Return a directory as a mount: writable only where its user can write."""
    return Mount(directory, target, os.access(directory, os.W_OK))
