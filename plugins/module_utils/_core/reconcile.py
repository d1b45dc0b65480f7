# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans the step from the current to the desired state of one resource: pure functions, no I/O.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

HIDDEN = "********"  # shown in place of a secret in results, diffs and logs
HIDDEN_CHANGED = f"{HIDDEN} (another value)"

NONE = "none"
CREATE = "create"
UPDATE = "update"
REPLACE = "replace"
DELETE = "delete"


@dataclass(frozen=True)
class Plan:
    """The state before, the state after, and the action between them.

    ``before`` and ``after`` are None where the resource does not exist. Neither holds a secret in clear text.
    ``fields`` names what differs, nested ones with dots (``auth.password``); ``secrets`` those among them that are secret.
    """

    action: str
    before: dict[str, t.Any] | None = None
    after: dict[str, t.Any] | None = None
    fields: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        return self.action != NONE

    @property
    def current(self) -> dict[str, t.Any]:
        """``before`` of a resource that exists."""
        if self.before is None:
            raise AssertionError("the plan has no state before")
        return self.before

    @property
    def target(self) -> dict[str, t.Any]:
        """``after`` of a resource that is not removed."""
        if self.after is None:
            raise AssertionError("the plan has no state after")
        return self.after


def given(value: t.Any) -> t.Any:
    """Drop options that were not set: None in mappings, at every depth, and mappings that are empty afterwards."""
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        kept = given(item)
        if kept is None or (isinstance(item, dict) and item and not kept):
            continue
        result[key] = kept
    return result


def merge(current: dict[str, t.Any], spec: dict[str, t.Any], whole: t.Collection[str] = ()) -> dict[str, t.Any]:
    """The current state merged with the spec; mappings are merged key by key, except those named in ``whole``."""
    merged = dict(current)
    for key, value in spec.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in whole:
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def difference(before: dict[str, t.Any], after: dict[str, t.Any], prefix: str = "") -> tuple[str, ...]:
    """The names of the fields in which two states differ, sorted."""
    names: list[str] = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names.extend(difference(old, new, f"{prefix}{key}."))
        elif old != new:
            names.append(prefix + key)
    return tuple(names)


def scrub(state: t.Any, secrets: t.Collection[str], replacement: str = HIDDEN, prefix: str = "") -> t.Any:
    """A copy of the state with the named fields (with dots where nested) replaced by ``replacement`` where they have a value."""
    if not isinstance(state, dict):
        return state
    shown: dict[str, t.Any] = {}
    for key, value in state.items():
        path = prefix + key
        if path in secrets:
            shown[key] = value if value is None else replacement
        else:
            shown[key] = scrub(value, secrets, replacement, path + ".")
    return shown


def reconcile(
    current: dict[str, t.Any] | None,
    desired: dict[str, t.Any] | None,
    *,
    immutable: t.Collection[str] = (),
    secrets: t.Collection[str] = (),
    changed_secrets: t.Collection[str] = (),
    whole: t.Collection[str] = (),
    entire: bool = False,
) -> Plan:
    """Compare the current state with the desired one.

    ``desired`` None means absent. A field that the spec does not name is left as it is. A difference in an ``immutable`` field
    makes the plan a replacement. ``secrets`` are never compared here, since no service returns them: a caller that can
    compare them passes those that differ in ``changed_secrets``. ``whole`` names mappings that the spec replaces rather than extends;
    ``entire`` applies this to the whole resource: fields that the spec does not name are removed.
    """
    before: t.Any = None if current is None else scrub(current, secrets)
    if desired is None:
        return Plan(NONE if current is None else DELETE, before=before)
    spec = scrub(desired, secrets)
    if current is None:
        return Plan(CREATE, after=spec, fields=difference({}, spec), secrets=tuple(sorted(changed_secrets)))
    after = spec if entire else merge(before, spec, whole)
    open_fields = tuple(name for name in difference(before, after) if name not in secrets)
    fields = tuple(sorted(set(open_fields) | set(changed_secrets)))
    if not fields:
        return Plan(NONE, before=before, after=before)
    fixed = any(name == stem or name.startswith(stem + ".") for name in fields for stem in immutable)
    return Plan(REPLACE if fixed else UPDATE, before=before, after=after, fields=fields, secrets=tuple(sorted(changed_secrets)))


def shown_diff(plan: Plan, name: str) -> dict[str, t.Any]:
    """The plan as ``--diff`` prints it; a secret that gets another value shows as such, never itself."""
    after = plan.after or {}
    if plan.secrets and plan.before is not None:
        after = scrub(after, plan.secrets, HIDDEN_CHANGED)
    return {"before_header": name, "after_header": name, "before": plan.before or {}, "after": after}
