"""Runs inside a lab host, where `lab.testhost` starts it: runs one command after the other and says how each ended.

It is one `docker exec` for all of them: to start another costs a machine more than most of the commands. What a
command inherits is what it would from a `docker exec` of its own. The host has nothing of DS01: only Python's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

LOAD = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
"""What starts it: it reads this file, after a line with its length, and then questions.

So the command line is short: some tests look for words in the command lines of all processes.
"""
# So long an engine, too, waits for what has the output of a command that has ended.
_LEFT_SECONDS = 2.0


def environment() -> dict[str, str]:
    """What the engine gave this process; Python adds to its own as it starts."""
    given = os.fsdecode(Path("/proc/self/environ").read_bytes())
    return dict(entry.split("=", 1) for entry in given.split("\0") if "=" in entry)


def run(argv: list[str], stdin: bytes, env: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Run a command to its end: its exit status as an engine gives it, and what it printed."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        return 127 if isinstance(error, FileNotFoundError) else 126, b"", f"{argv[0]}: {error.strerror}\n".encode()
    threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True).start()
    found = []
    for pipe in (process.stdout, process.stderr):
        pieces: list[bytes] = []
        reader = threading.Thread(target=_drain, args=(pipe, pieces), daemon=True)
        reader.start()
        found.append((reader, pieces))
    status = process.wait()
    end = time.monotonic() + _LEFT_SECONDS
    for reader, _ in found:
        reader.join(max(0.0, end - time.monotonic()))
    out, err = (b"".join(pieces) for _, pieces in found)
    return 128 - status if status < 0 else status, out, err


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        with pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # It ended before it had read everything.


def _drain(pipe: IO[bytes], pieces: list[bytes]) -> None:
    while piece := os.read(pipe.fileno(), 1 << 16):
        pieces.append(piece)


def main() -> None:
    """Answer until nobody asks any more."""
    env = environment()
    os.umask(0o022)
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        status, out, err = run(asked["argv"], sys.stdin.buffer.read(asked["stdin"]), env)
        sys.stdout.buffer.write(json.dumps([status, len(out), len(err)]).encode() + b"\n" + out + err)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
