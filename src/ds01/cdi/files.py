"""The spec files of claims: one each, live where the engine looks, and kept where a reboot does not take them.

Order matters: a spec goes before its devices are given to anybody else, and is written after they were leased. So a
file may be missing, and then the container does not start; it never names a device that another claim holds.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ds01.files import atomic_write, ensure_directory, remove_file

from .base import DIRECTORIES, read_base, read_spec
from .spec import CdiError, compose, devices_of

KEPT: Final = Path("/var/lib/ds01/cdi")
_FILE = re.compile(r"ds01\.io-gpu-([a-z0-9]{16,64})\.json")


@dataclass(frozen=True)
class SpecFiles:
    """Where spec files are: `live` for the engine, `kept` for us, `bases` for NVIDIA's."""

    live: Path = DIRECTORIES[0]
    kept: Path = KEPT
    bases: tuple[Path, ...] = field(default=DIRECTORIES)

    def write(self, token: str, uuids: Iterable[str], base: Mapping[str, Any] | None = None) -> bool:
        """Let the container of a claim have exactly these devices from its next start on.

        Args:
            token: The claim.
            uuids: Its devices.
            base: NVIDIA's spec, for whoever has read it already.

        Returns:
            Whether anything changed.

        Raises:
            CdiError: The spec cannot be made or written; the live one is removed, so nothing starts with it.
        """
        try:
            spec = compose(read_base(self.bases) if base is None else base, token, tuple(uuids))
            text = json.dumps(spec, indent=1, ensure_ascii=False) + "\n"
            changed = False
            for directory, mode in ((self.kept, 0o700), (self.live, 0o755)):
                ensure_directory(directory, mode=mode)
                changed = atomic_write(self._path(directory, token), text, mode=0o600) or changed
        except CdiError:
            self._close(token)
            raise
        except OSError as error:
            self._close(token)
            raise CdiError(f"{error.filename}: CDI spec not written: {error.strerror}") from error
        return changed

    def _close(self, token: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(self.live, token).unlink()

    def remove(self, token: str) -> bool:
        """Let the container of a claim not start any more. Returns whether it could before.

        Raises:
            CdiError: The file cannot be removed, so its devices must not be given away.
        """
        try:
            # The live one first: what is left of an interrupted removal must not count.
            there = [directory for directory in (self.live, self.kept) if directory.is_dir()]
            removed = [remove_file(self._path(directory, token)) for directory in there]
        except OSError as error:
            raise CdiError(f"{error.filename}: CDI spec not removed: {error.strerror}") from error
        return any(removed)

    def given(self) -> dict[str, tuple[str, ...]]:
        """Return the devices that each claim's container gets, by token, the live spec before the kept one."""
        found: dict[str, tuple[str, ...]] = {}
        for directory in (self.live, self.kept):
            for path in sorted(directory.glob("ds01.io-gpu-*.json")):
                match = _FILE.fullmatch(path.name)
                if match and match[1] not in found:
                    # What cannot be read gives nothing: the engine cannot read it either.
                    with contextlib.suppress(CdiError):
                        found[match[1]] = devices_of(read_spec(path))
        return found

    def narrow(self, wanted: Mapping[str, tuple[str, ...]]) -> None:
        """Remove each spec that gives a container what its claim does not hold.

        Raises:
            CdiError: One cannot be removed.
        """
        for token, uuids in self.given().items():
            if not set(uuids) <= set(wanted.get(token, ())):
                self.remove(token)

    def sync(
        self, wanted: Mapping[str, tuple[str, ...]], base: Mapping[str, Any] | None
    ) -> tuple[list[str], list[CdiError]]:
        """Make the files what the leases say: at boot, after a change of driver, after a crash.

        Args:
            wanted: The devices of each claim that has any.
            base: NVIDIA's spec. None: there is none, so nothing is written, and what is there for a lease stays.

        Returns:
            The tokens whose files changed, and what went wrong with others.
        """
        changed: list[str] = []
        problems: list[CdiError] = []
        for token in sorted({*self._tokens(self.live), *self._tokens(self.kept), *wanted}):
            try:
                if token not in wanted:
                    changed += [token] * self.remove(token)
                elif base is not None:
                    changed += [token] * self.write(token, wanted[token], base)
            except CdiError as error:
                problems.append(error)
        return changed, problems

    def _tokens(self, directory: Path) -> list[str]:
        return [match[1] for path in directory.glob("*") if (match := _FILE.fullmatch(path.name))]

    def _path(self, directory: Path, token: str) -> Path:
        name = f"ds01.io-gpu-{token}.json"
        if not _FILE.fullmatch(name):
            raise CdiError(f"GPU claim {token!r}: not a token that DS01 gives")
        return directory / name
