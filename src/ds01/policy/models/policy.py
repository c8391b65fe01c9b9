"""The whole policy file."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ds01.policy.models.base import Old, Section
from ds01.policy.models.gpu import GpuAllocation
from ds01.policy.models.host import (
    Admins,
    BareMetal,
    ContainerTypes,
    Enforcement,
    Engine,
    Images,
    Logins,
    Monitoring,
    Storage,
    Users,
)
from ds01.policy.models.limits import LifecyclePolicies, Limits
from ds01.policy.models.members import Exemption, Group, Override, Reservation
from ds01.policy.models.notifications import Notifications
from ds01.policy.text_fields import Name, Text

# A field that may be null in the file only to be reported.
MISSING = "missing"
_FILE = "a file name, relative to the policy file"


class AccessControl(Section):
    """Old section; its parts moved to `admins`."""

    old_names: ClassVar[dict[str, Old]] = {
        "admin_users": Old(moved=("admins", "users")),
        "admin_group": Old(moved=("admins", "groups")),
        "wrapper": Old(note="there is no docker wrapper any more"),
    }


class Policy(Section):
    """One file that describes the lab. Sizes are binary, times UTC, null means unlimited or switched off."""

    old_names: ClassVar[dict[str, Old]] = {"bare_metal_access": Old(to="bare_metal")}

    defaults: Limits = Limits()
    """Limits of everybody, unless the group or an override says otherwise."""
    default_group: Annotated[str | None, Name("group", nullable=True, null_means=MISSING)] = None
    """Group of people who are in no list. Must be one of `groups`."""
    groups: dict[str, Group] = Field(default_factory=dict)
    """Groups by name: a-z, 0-9 and _, at most 31 characters."""
    user_overrides: dict[str, Override] = Field(default_factory=dict)
    """Other limits for single people, by login name."""
    user_overrides_file: Annotated[str | None, Text(describe=_FILE, nullable=True, null_means="none")] = None
    """File with further `user_overrides`."""
    group_overrides_file: Annotated[str | None, Text(describe=_FILE, nullable=True, null_means="none")] = None
    """File with lines `user:group` that put people into groups."""
    people_files: tuple[Annotated[str, Text(describe=_FILE)], ...] = ()
    """CSV or YAML files of people who get accounts: login, name, group, keys, expires. * and ? match names."""
    gpu_allocation: GpuAllocation = GpuAllocation()
    """How GPUs are divided and handed out."""
    reservations: tuple[Reservation, ...] = ()
    """Devices kept for a person or group for a time."""
    policies: LifecyclePolicies = LifecyclePolicies()
    """Lifecycle rules for everybody."""
    container_types: ContainerTypes = ContainerTypes()
    """Lifecycle limits by type of container."""
    exemptions: tuple[Exemption, ...] = ()
    """People for whom lifecycle rules do not count."""
    exemptions_file: Annotated[str | None, Text(describe=_FILE, nullable=True, null_means="none")] = None
    """File with further `exemptions`."""
    bare_metal: BareMetal = BareMetal()
    """Use of GPUs outside containers."""
    access_control: AccessControl = AccessControl()
    """Old section; write `admins`."""
    admins: Admins = Admins()
    """Administrators."""
    storage: Storage = Storage()
    """Data directories and quotas."""
    logins: Logins = Logins()
    """Limits of login sessions."""
    users: Users = Users()
    """Accounts."""
    notifications: Notifications = Notifications()
    """Messages to people."""
    images: Images = Images()
    """Container images."""
    monitoring: Monitoring = Monitoring()
    """Monitoring."""
    enforcement: Enforcement = Enforcement()
    """How limits reach the kernel."""
    engine: Engine = Engine()
    """The container engine."""

    @cached_property
    def tables(self) -> dict[str, Any]:
        """The limits of everybody as plain data, the form in which they are resolved."""
        from ds01.policy.tables import build_tables  # noqa: PLC0415 - tables are built from models

        return build_tables(self)
