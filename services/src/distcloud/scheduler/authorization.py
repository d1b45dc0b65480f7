"""Token scopes of the scheduler: `viewer` reads, `group_admin` changes its groups' resources, `cloud_admin` may do everything."""

from __future__ import annotations

from ..common.config import Scope
from ..common.http.auth import Caller

VIEWER = "viewer"
GROUP_ADMIN = "group_admin"
CLOUD_ADMIN = "cloud_admin"
SCOPES = (Scope(VIEWER, "optional"), Scope(GROUP_ADMIN, "required"), Scope(CLOUD_ADMIN))


def is_cloud_admin(caller: Caller) -> bool:
    return caller.scope == CLOUD_ADMIN


def may_change_group(caller: Caller, group: str) -> bool:
    """Whether the token may change resources of this group, and so see what is shown to nobody else."""
    return caller.scope in (GROUP_ADMIN, CLOUD_ADMIN) and caller.sees(group)


def require_cloud_admin(caller: Caller, action: str) -> None:
    """Raises Problem 403 for other scopes."""
    caller.require_scope(action, CLOUD_ADMIN)


def require_group_admin(caller: Caller, group: str) -> None:
    """Raises Problem 403 unless the token may change resources of this group."""
    caller.require_scope(f"changing group {group}", GROUP_ADMIN, CLOUD_ADMIN)
    caller.require_group(group)
