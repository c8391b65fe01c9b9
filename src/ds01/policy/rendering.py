"""One self-contained policy file: what hosts get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from ds01.problems import shown

if TYPE_CHECKING:
    from ds01.policy.load import LoadedPolicy

# What these name is part of the rendered file, or (people) stays on the controller.
_REFERENCES = {"user_overrides_file", "group_overrides_file", "exemptions_file", "people_files", "access_control"}
_HEADER = """\
# Written by DS01, generated from {name}; edit there.
# Members, overrides and exemptions of all files it refers to are included. Sizes are binary, times UTC.
"""


def render(loaded: LoadedPolicy) -> str:
    """Return the whole policy as one canonical YAML file. The same policy always gives the same text."""
    return _HEADER.format(name=shown(loaded.path.name)) + dump(canonical(loaded))


def canonical(loaded: LoadedPolicy) -> dict[str, Any]:
    """Return the policy as plain YAML data with today's names, members sorted, without references to files."""
    data: dict[str, Any] = loaded.policy.model_dump(mode="json", exclude_unset=True)
    for key in _REFERENCES:
        data.pop(key, None)
    for group in data.get("groups", {}).values():
        group.pop("members_file", None)
        if "members" in group:
            group["members"] = sorted(set(group["members"]))
    return data


class _Dumper(yaml.SafeDumper):
    """Writes no anchors: each value stands where it counts."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Repeat equal values."""
        return True


def dump(data: dict[str, Any]) -> str:
    """Return YAML in the order of the data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
