"""The thin names: commands that people know, each another name of a part of `ds01`.

Each is a link to the same program, which looks at how it was called.
"""

from __future__ import annotations

from typing import Final

REQUEST_LABEL: Final = "dev.ds01.request"
"""On every container that our commands make; labels that begin with `ds01.` are the gateway's."""
PROJECT_LABEL: Final = "dev.ds01.project"
"""On those that they make for a project: its name, which the gateway takes for `ds01.project`."""

_VERBS: Final = {
    "container": (
        "attach", "create", "deploy", "extend", "keep", "list", "pause", "remove", "retire", "run", "start", "stats",
        "stop", "unpause",
    ),
    "image": ("build", "create", "delete", "install", "list", "update"),
}  # fmt: skip
"""People type `container create` and `container-create`."""

THIN: Final[dict[str, tuple[str, ...]]] = {
    "alias-list": ("commands",),
    "check-limits": ("limits",),
    "commands": ("commands",),
    "dashboard": ("dashboard",),
    # Not `devcontainer` itself: that is the command of the editors' makers.
    "devcontainer-check": ("devcontainer", "check"),
    "devcontainer-init": ("devcontainer", "init"),
    "dir-create": ("project", "dir"),
    "ds01-dashboard": ("dashboard",),
    "ds01-events": ("events",),
    "ds01-health-check": ("health",),
    "ds01-run": ("run",),
    "ds01-status": ("status",),
    "ds01-who": ("who",),
    "get-limits": ("limits",),
    "git-init": ("project", "git"),
    "jupyter-setup": ("user", "jupyter"),
    "mlc-create": ("container", "mlc-create"),
    "new-project": ("project", "init"),
    "new-user": ("user", "setup"),
    "project": ("project",),
    "project-init": ("project", "init"),
    "project-launch": ("project", "launch"),
    "readme-create": ("project", "readme"),
    "shell-setup": ("user", "shell"),
    "ssh-setup": ("user", "ssh"),
    "user": ("user",),
    "user-setup": ("user", "setup"),
    "vscode-setup": ("user", "vscode"),
    **{noun: (noun,) for noun in _VERBS},
    **{f"{noun}-{verb}": (noun, verb) for noun, verbs in _VERBS.items() for verb in verbs},
}
