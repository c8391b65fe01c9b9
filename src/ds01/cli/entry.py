"""Where `ds01` starts: before anything else, an interruption is made harmless, and streams that lack are there."""

from __future__ import annotations

import os
import signal
import sys

# Until the command itself listens, Ctrl-C ends it as it ends any program: at once, without a traceback.
_LISTENS = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _LISTENS:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line and exit."""
    from ds01.cli.main import run  # noqa: PLC0415 - what takes long comes after the above
    from ds01.cli.output import INTERRUPTED  # noqa: PLC0415 - as above

    _open_streams()
    try:
        if _LISTENS:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(called=sys.argv[0].rpartition("/")[2])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _open_streams() -> None:
    """Open on nothing what the caller closed: else the first file or connection would be taken for it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest number that is free, which is this one, for those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - its only form
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))
