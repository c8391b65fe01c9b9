"""Runs a command in the slice of whoever calls it: `python -m ds01.cli.image.inside COMMAND...`."""

from __future__ import annotations

import os
import sys

from ds01.cli import client
from ds01.problems import ReportedError


def main() -> int:
    """Enter the slice, then become the command."""
    try:
        client.ask("POST", "slice", body={})
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - what the caller could run anyway
    except (ReportedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the answer
    return 1


if __name__ == "__main__":
    sys.exit(main())
