"""Do people's logins have a /tmp of their own, and does nothing tell them of others' processes?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from .model import Check, failed, ok, run

_PAM: Final = Path("/etc/pam.d")
_STACKS: Final = ("common-session", "common-session-noninteractive")
_MODULE: Final = "pam_namespace.so"
_NOBODY: Final = "nobody"
_FIX: Final = "Run site.yml again with --tags privacy."
# Any service whose sessions are made by the second of the stacks; where sudo is missing PAM takes its own default.
_SERVICE: Final = "sudo"
# systemd tells it of every unit, whatever /proc hides.
_ASK: Final = (
    "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager "
    "GetUnitProcesses s init.scope >/dev/null 2>&1 && echo systemctl-status || :"
)


def check_privacy() -> Check:
    """An ordinary session sees neither what others have in /tmp nor their processes; it is tried out."""
    without = [name for name in _STACKS if _MODULE not in _text(_PAM / name)]
    if without:
        return failed("privacy", f"{' and '.join(without)} lack {_MODULE}: /tmp and processes are shown to all", _FIX)
    with tempfile.NamedTemporaryFile(prefix="ds01-health-") as others:
        Path(others.name).chmod(0o644)
        look = f'for place in "$1" /proc/1; do test ! -e "$place" || echo "$place"; done; {_ASK}'
        done = run(
            "systemd-run", "--quiet", "--collect", "--pipe", "--wait", f"--property=User={_NOBODY}",
            f"--property=PAMName={_SERVICE}", "sh", "-c", look, "sh", others.name,
        )  # fmt: skip
    if done.returncode != 0:
        return failed("privacy", f"no session can be made: {done.stderr.strip()}", _FIX)
    if seen := done.stdout.split():
        return failed("privacy", f"a session of {_NOBODY} sees {', '.join(seen)}", _FIX)
    return ok("privacy", "sessions see neither others' /tmp nor their processes")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
