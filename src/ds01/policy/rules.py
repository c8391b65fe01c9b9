"""Rules between several parts of the policy. Each finding names the place that should change."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ds01 import mig_geometry
from ds01.policy import names
from ds01.policy.problems import BadValue, closest
from ds01.policy.resolver import group_limits, resolve_group, resolve_member
from ds01.policy.text_fields import HostPath
from ds01.policy.units import format_number, format_size
from ds01.slices.names import SliceNameError, user_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from ds01.policy.draft import Draft
    from ds01.policy.models import Policy
    from ds01.policy.models.members import Override, Window
    from ds01.policy.resolver import Resolved
    from ds01.policy.source import Steps

_HOST_PATH = HostPath()
_GPU = re.compile(r"[0-9]{1,3}|GPU-[0-9a-fA-F-]{36}|([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})
# A container may not be promised more than its person or the person's slice may use.
_WITHIN = (
    ("max_cpus", "aggregate.max_cpus"),
    ("memory", "aggregate.memory_max"),
    ("pids_limit", "aggregate.tasks_max"),
    ("io_read_bps", "aggregate.io_read_bps"),
    ("io_write_bps", "aggregate.io_write_bps"),
    ("aggregate.memory_high", "aggregate.memory_max"),
    ("memory", "memory_swap"),
)


def check_rules(policy: Policy, draft: Draft, now: datetime) -> None:
    """Add every finding about the policy as a whole to the draft."""
    _groups(policy, draft)
    _members(policy, draft)
    _limits(policy, draft)
    _overrides(policy, draft, now)
    _exemptions(policy, draft, now)
    _reservations(policy, draft, now)
    _mig(policy, draft)
    _host(policy, draft)
    _notifications(policy, draft)


def known_users(policy: Policy) -> set[str]:
    """Return everybody who is in a list of the policy."""
    return {user for group in policy.groups.values() for user in group.members}


def _hint(word: str, known: Iterable[str], otherwise: str) -> str:
    near = closest(word, known)
    return f"did you mean {near}?" if near else otherwise


def _groups(policy: Policy, draft: Draft) -> None:
    for name in policy.groups:
        try:
            names.check_group(name)
        except BadValue as error:
            draft.error(("groups", name), name, error.expected, error.fix)
    if policy.default_group is None:
        fix = f"write default_group: {next(iter(policy.groups), 'student')}"
        if "default_group" not in draft.data or draft.data["default_group"] is None:
            draft.error(("default_group",), "missing", "the group of people who are in no list", fix)
    elif policy.default_group not in policy.groups:
        fix = _hint(policy.default_group, policy.groups, f"add the group below groups: {policy.default_group}: {{}}")
        draft.error(("default_group",), policy.default_group, "one of groups", fix)
    owners: dict[str, str] = {}
    for name, group in policy.groups.items():
        if group.unix_group is None:
            continue
        if group.unix_group in owners:
            expected = f"a Unix group that no other group has ({owners[group.unix_group]} has it)"
            draft.error(("groups", name, "unix_group"), group.unix_group, expected, "keep it in one group")
        owners.setdefault(group.unix_group, name)


def _members(policy: Policy, draft: Draft) -> None:
    places: dict[str, tuple[str, Steps]] = {}
    folded: dict[str, str] = {}
    for name, group in policy.groups.items():
        for index, user in enumerate(group.members):
            path: Steps = ("groups", name, "members", index)
            if user in places:
                first, place = places[user]
                if first == name:
                    draft.warn(path, user, f"each member once (also at {draft.where(place)})", "remove one")
                else:
                    expected = f"a person in one group only (also in {first}, {draft.where(place)})"
                    draft.error(path, user, expected, f"keep {user} in {first} or in {name}")
                continue
            places[user] = (name, path)
            _odd_name(path, user, draft)
            _slice_name(path, name, user, draft)
            other = folded.setdefault(user.lower(), user)
            if other != user:
                draft.warn(path, user, f"one spelling of a name ({other} is there too)", "use what `id -un` prints")
    for user in policy.user_overrides:
        try:
            names.check_user(user)
        except BadValue as error:
            draft.error(("user_overrides", user), user, error.expected, error.fix)


def _odd_name(path: Steps, user: str, draft: Draft) -> None:
    if reason := names.unusual_user(user):
        draft.warn(path, user, reason, "check the spelling with `getent passwd NAME`")


def _slice_name(path: Steps, group: str, user: str, draft: Draft) -> None:
    if names.GROUP.fullmatch(group):
        try:
            user_slice(group, user)
        except SliceNameError as error:
            draft.error(path, user, "a name that a slice can be named after", str(error).rpartition(": ")[2])


def _limits(policy: Policy, draft: Draft) -> None:
    tables = policy.tables
    for name in policy.groups:
        resolved = resolve_group(tables, name)
        _within(resolved, ("groups", name), tables["groups"][name], draft)
        _group_caps(resolved.values, name, group_limits(tables, name), draft)
    if "max_gpu_equivalents" not in tables["defaults"] and "max_mig_instances" not in tables["defaults"]:
        expected = "max_gpu_equivalents or max_mig_instances, or groups have no GPU quota unless they set one"
        draft.warn(("defaults",), "no GPU quota", expected, "write max_gpu_equivalents: 1")
    for user in policy.user_overrides:
        own = tables["overrides"][user]["values"]
        _within(resolve_member(tables, user), ("user_overrides", user), own, draft)


def _group_caps(values: Mapping[str, Any], name: str, caps: Mapping[str, Any], draft: Draft) -> None:
    """Warn where one member alone may use more than the group as a whole."""
    for field, cap in caps.items():
        own = values[f"aggregate.{field}"]
        if cap is not None and (own is None or own > cap):
            text = _text_of(format_size if "memory" in field else format_number)
            source = "max_tasks" if field == "tasks_max" else f"group_aggregate.{field}"
            expected = (
                f"a limit of one person (aggregate.{field}) within that of the whole group, {text(cap)} by {source}"
            )
            draft.warn(("groups", name), text(own), expected, f"raise {source} or lower aggregate.{field}")


def _within(resolved: Resolved, path: Steps, own: Mapping[str, Any], draft: Draft) -> None:
    """Report pairs of limits that cannot hold together, where one of them is set."""
    values = resolved.values
    for inner, outer in _WITHIN:
        low, high = values[inner], values[outer]
        if low is None or high is None or low <= high:
            continue
        if outer == "aggregate.tasks_max" and resolved.origins[outer].startswith("="):
            outer = "max_tasks"  # noqa: PLW2901 - what made it so small
        key = inner if inner in own and outer not in own else outer
        # What comes from defaults is one mistake, not one for each group.
        section = path if {inner, outer} & set(own) else ("defaults",)
        text = _text_of(format_number if "cpus" in inner else (str if "pids" in inner else format_size))
        expected = f"{inner} ({text(low)}) within {outer} ({text(high)})"
        draft.error((*section, *key.split(".")), text(values[key]), expected, f"raise {outer} or lower {inner}")
    shm, memory = values["shm_size"], values["memory"]
    if memory is not None and shm > memory and {"shm_size", "memory"} & set(own):
        expected = f"at most memory ({format_size(memory)}), because shared memory counts as memory"
        draft.warn((*path, "shm_size"), format_size(shm), expected, "lower shm_size")


def _text_of(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "null" if value is None else write(value)


def _overrides(policy: Policy, draft: Draft, now: datetime) -> None:
    users = known_users(policy)
    dynamic = any(group.unix_group for group in policy.groups.values())
    for user, override in policy.user_overrides.items():
        path: Steps = ("user_overrides", user)
        if user not in users:
            where = "otherwise a Unix group or default_group decides" if dynamic else "otherwise default_group counts"
            fix = _hint(user, users, "check the spelling, or add the person to a group")
            draft.warn(path, user, f"somebody who is a member of a group ({where})", fix)
        if override.expires and override.expires < now.date():
            draft.warn(
                (*path, "expires"),
                override.expires.isoformat(),
                "a day that is not over; it has no effect any more",
                "remove it",
            )
        _override_window(path, override, draft)


def _override_window(path: Steps, override: Override, draft: Draft) -> None:
    start, end = override.reservation_start, override.reservation_end
    if (start is None) == (end is None):
        return
    given, missing = ("reservation_start", "reservation_end") if start else ("reservation_end", "reservation_start")
    draft.error((*path, given), str(start or end), "a start and an end", f"add {missing}")


def _exemptions(policy: Policy, draft: Draft, now: datetime) -> None:
    users = known_users(policy)
    for index, exemption in enumerate(policy.exemptions):
        path: Steps = ("exemptions", index)
        if exemption.user not in users:
            fix = _hint(exemption.user, users, "check the spelling, or add the person to a group")
            draft.warn((*path, "user"), exemption.user, "somebody who is a member of a group", fix)
        if not exemption.exempt_from and not draft.incomplete((*path, "exempt_from")):
            draft.warn((*path, "exempt_from"), "empty", "at least one rule", "write [idle_timeout] or remove the entry")
        if exemption.expires and exemption.expires < now.date():
            expected = "a day that is not over; it has no effect any more"
            draft.warn((*path, "expires"), exemption.expires.isoformat(), expected, "remove the exemption")


def _reservations(policy: Policy, draft: Draft, now: datetime) -> None:
    taken: dict[str, list[tuple[str, Window, str]]] = defaultdict(list)
    for owner, path, window in _windows(policy, draft):
        if window.end <= window.start:
            draft.error((*path, "end"), window.end.isoformat(), "a time after the start", "check both times (UTC)")
            continue
        if window.end <= now:
            expected = "a time to come; it has no effect any more"
            draft.warn((*path, "end"), window.end.isoformat(), expected, "remove it")
        for device in window.devices:
            for other, theirs, where in taken[device]:
                if other != owner and window.start < theirs.end and theirs.start < window.end:
                    expected = f"a device nobody else has at that time ({other} has it, {where})"
                    draft.error((*path, "devices"), device, expected, "choose another device or time")
            taken[device].append((owner, window, draft.where(path)))


def _windows(policy: Policy, draft: Draft) -> list[tuple[str, Steps, Window]]:
    windows: list[tuple[str, Steps, Window]] = []
    for index, reservation in enumerate(policy.reservations):
        path: Steps = ("reservations", index)
        if (reservation.user is None) == (reservation.group is None):
            draft.error(path, "a section", "either user or group", "name the person or the group it is for")
        elif reservation.group is not None and reservation.group not in policy.groups:
            fix = _hint(reservation.group, policy.groups, "add the group")
            draft.error((*path, "group"), reservation.group, "one of groups", fix)
        windows.append(
            (f"user {reservation.user}" if reservation.user else f"group {reservation.group}", path, reservation)
        )
    for user, override in policy.user_overrides.items():
        for index, window in enumerate(override.all_windows()):
            listed = index < len(override.reservations)
            path = ("user_overrides", user, "reservations", index) if listed else ("user_overrides", user)
            windows.append((f"user {user}", path, window))
    return windows


def _mig(policy: Policy, draft: Draft) -> None:
    gpus = policy.gpu_allocation
    path: Steps = ("gpu_allocation",)
    if gpus.mig_profile and not mig_geometry.models_with(gpus.mig_profile):
        known = mig_geometry.known_profiles()
        near = mig_geometry.closest_profile(gpus.mig_profile)
        fix = f"did you mean {near}?" if near else f"choose one of {', '.join(known)}"
        draft.error((*path, "mig_profile"), gpus.mig_profile, "a profile of a known GPU model", fix)
    if gpus.enable_mig and not gpus.mig_profile and not gpus.mig_layout:
        draft.error((*path, "enable_mig"), "true", "mig_profile or mig_layout as well", "write mig_profile: 1g.10gb")
    if not gpus.enable_mig and (gpus.mig_profile or gpus.mig_layout):
        draft.warn((*path, "enable_mig"), "false", "true, or the MIG settings have no effect", "write enable_mig: true")
    possible: set[str] = set(mig_geometry.MODELS)
    named: dict[str, str] = {}
    for gpu, instances in gpus.mig_layout.items():
        slots = [mig_geometry.Slot(instance.profile, instance.start) for instance in instances]
        models = mig_geometry.fitting_models(slots)
        text = ", ".join(map(str, slots))
        if not models:
            draft.error((*path, "mig_layout", gpu), text, *_misfit(slots))
        elif not possible & set(models):
            expected = "layouts that one GPU model can have; these need different models"
            draft.warn((*path, "mig_layout", gpu), text, expected, f"this one fits {', '.join(models)}")
        if not _GPU.fullmatch(gpu):
            fix = "write 0, GPU-<uuid> or 0000:3b:00.0"
            draft.error((*path, "mig_layout", gpu), gpu, "a GPU by index, UUID or PCI address", fix)
        # 00 is 0, and a PCI domain may have four or eight digits.
        other = named.setdefault(re.sub(r"\b0+(?=[0-9a-f])", "", gpu.lower()), gpu)
        if other != gpu:
            draft.error((*path, "mig_layout", gpu), gpu, f"each GPU once ({other} is the same)", "keep one of them")
        possible &= set(models) or possible


def _misfit(slots: list[mig_geometry.Slot]) -> tuple[str, str]:
    """Return why instances fit on no known GPU, and what to do."""
    for slot in slots:
        if not mig_geometry.models_with(slot.profile):
            near = mig_geometry.closest_profile(slot.profile)
            fix = f"did you mean {near}?" if near else f"choose one of {', '.join(mig_geometry.known_profiles())}"
            return f"profiles of known GPU models ({slot.profile} is none)", fix
    common = [
        model for model, profiles in mig_geometry.MODELS.items() if all(slot.profile in profiles for slot in slots)
    ]
    if not common:
        models = "; ".join(
            f"{name} is of {', '.join(mig_geometry.models_with(name))}"
            for name in dict.fromkeys(s.profile for s in slots)
        )
        return "profiles of one GPU model", models
    problem = mig_geometry.misfit(slots, mig_geometry.MODELS[common[0]])
    assert problem is not None  # noqa: S101 - only called for slots that fit on no model
    return problem


def _host(policy: Policy, draft: Draft) -> None:
    logins = policy.logins
    if logins.memory_high is not None and logins.memory_max is not None and logins.memory_high > logins.memory_max:
        expected = f"at most memory_max ({format_size(logins.memory_max)})"
        draft.error(("logins", "memory_high"), format_size(logins.memory_high), expected, "lower memory_high")
    if not policy.admins.groups and not policy.admins.users:
        draft.warn(("admins",), "nobody", "at least one administrator besides root", "write groups: [ds01-admin]")
    for directory in policy.storage.directories:
        with suppress(BadValue):
            if directory != "/" and _HOST_PATH.check(directory) == directory:
                continue
        path: Steps = ("storage", "directories", directory)
        draft.error(
            path, directory, "an absolute path below /, of letters, digits and . _ @ + -", "write it like /data"
        )


def _notifications(policy: Policy, draft: Draft) -> None:
    section = policy.notifications
    mail, used = section.email, {*section.channels, *section.admin_channels}
    path: Steps = ("notifications", "email")
    if "email" in used and (mail.server is None or mail.sender is None):
        draft.error(path, "incomplete", "server and sender, since email is among the channels", "add both")
    if "email" in section.admin_channels and not mail.admins:
        draft.error((*path, "admins"), "nobody", "at least one address", "add the address of an administrator")
    if (mail.user is None) != (mail.password_file is None):
        draft.error(path, "incomplete", "user and password_file, or neither", "add the other one")
    if mail.security == "none" and mail.server not in {None, *_LOOPBACK}:
        text = "starttls or tls, except on this host itself"
        draft.error((*path, "security"), "none", text, "remove it: messages and passwords would be readable on the way")
    if "teams" in used and section.teams.webhook_file is None:
        text = "a file with the address of the webhook, since teams is among the channels"
        draft.error(("notifications", "teams", "webhook_file"), "null", text, "write it like /etc/ds01/secrets/teams")
