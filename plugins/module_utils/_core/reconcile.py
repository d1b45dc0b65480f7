# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do so that one resource becomes as wished: pure functions, no I/O.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

MARK = "********"  # stands for a secret wherever a person can look
MARK_CHANGED = "******** (another value)"

NONE = "none"
CREATE = "create"
UPDATE = "update"
REPLACE = "replace"
DELETE = "delete"


@dataclass(frozen=True)
class Plan:
    """What is, what shall be, and the step between them.

    ``before`` and ``after`` are None where the resource does not exist. Neither holds a secret in clear text.
    ``fields`` names what differs, nested ones with dots (``auth.password``); ``secrets`` those among them that are secret.
    """

    action: str
    before: t.Optional[dict[str, t.Any]] = None
    after: t.Optional[dict[str, t.Any]] = None
    fields: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        return self.action != NONE


def given(value: t.Any) -> t.Any:
    """Drop whatever was not said: None in mappings, at every depth. A mapping of which nothing was said is not said either."""
    if not isinstance(value, dict):
        return value
    said = {}
    for key, item in value.items():
        kept = given(item)
        if kept is None or (isinstance(item, dict) and item and not kept):
            continue
        said[key] = kept
    return said


def merge(current: dict[str, t.Any], wish: dict[str, t.Any], whole: t.Collection[str] = ()) -> dict[str, t.Any]:
    """The current state with the wish laid over it; mappings are merged key by key, except those named in ``whole``."""
    merged = dict(current)
    for key, value in wish.items():
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
            names.extend(difference(old, new, "%s%s." % (prefix, key)))
        elif old != new:
            names.append(prefix + key)
    return tuple(names)


def scrub(state: t.Any, secrets: t.Collection[str], mark: str = MARK, prefix: str = "") -> t.Any:
    """A copy of the state with the named fields (with dots where nested) replaced by a mark where they have a value."""
    if not isinstance(state, dict):
        return state
    shown: dict[str, t.Any] = {}
    for key, value in state.items():
        path = prefix + key
        if path in secrets:
            shown[key] = value if value is None else mark
        else:
            shown[key] = scrub(value, secrets, mark, path + ".")
    return shown


def reconcile(
    current: t.Optional[dict[str, t.Any]],
    desired: t.Optional[dict[str, t.Any]],
    *,
    immutable: t.Collection[str] = (),
    secrets: t.Collection[str] = (),
    changed_secrets: t.Collection[str] = (),
    whole: t.Collection[str] = (),
    entire: bool = False,
) -> Plan:
    """Compare what is with what is wished.

    ``desired`` None means absent. A field that the wish does not name is left as it is. A difference in an ``immutable`` field
    makes the plan a replacement. ``secrets`` are never compared here, since no service gives them back: whoever can
    compare says in ``changed_secrets`` which of them differ. ``whole`` names mappings that the wish replaces rather than extends;
    ``entire`` says so of the resource itself: what the wish does not name goes.
    """
    before = None if current is None else scrub(current, secrets)
    if desired is None:
        return Plan(NONE if current is None else DELETE, before=before)
    wish = scrub(desired, secrets)
    if current is None:
        return Plan(CREATE, after=wish, fields=difference({}, wish), secrets=tuple(sorted(changed_secrets)))
    after = wish if entire else merge(before, wish, whole)
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
        after = scrub(after, plan.secrets, MARK_CHANGED)
    return {"before_header": name, "after_header": name, "before": plan.before or {}, "after": after}
