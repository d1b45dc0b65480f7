# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base of all kinds of resources in a region: the ownership rule and the look-up of projects and domains.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import Failure
from .._core.reconcile import Plan
from .._openstack.client import Client
from .rules import SERVICE, foreign, is_ours

Spec = dict[str, t.Any]  # evaluated at run time, also by older Pythons
State = t.Optional[dict[str, t.Any]]


class Context:
    """State shared by the kinds of one call: the account, the ownership tag, present or absent, and ids already looked up."""

    def __init__(self, client: Client, tag: str, absent: bool, project: Spec | None, warn: t.Callable[[str], None]) -> None:
        self.client = client
        self.tag = tag
        self.absent = absent
        self.project = project
        self.warn = warn
        self._domains: dict[str, str] = {}
        self._project: dict[str, t.Any] | None = None

    def domain_id(self, name: str) -> str:
        """The id of a domain given by name."""
        if name not in self._domains:
            found = self.client.list("identity", "/domains", "domains", name=name)
            if not found:
                raise Failure(
                    f"domain {name} does not exist in this region; see 'openstack domain list'",
                    "keystone",
                    "no_domain",
                    {"field": "domain"},
                )
            self._domains[name] = found[0]["id"]
        return self._domains[name]

    def current_project(self) -> dict[str, t.Any] | None:
        """Our project in Keystone; None if it does not exist."""
        if self._project is None and self.project is not None:
            domain = self.domain_id(self.project["domain"])
            found = self.client.list("identity", "/projects", "projects", name=self.project["name"], domain_id=domain)
            self._project = found[0] if found else None
        return self._project

    def project_id(self) -> str | None:
        """The id of our project; None if none was named or it does not exist."""
        found = self.current_project()
        return found["id"] if found else None

    def remember_project(self, project: dict[str, t.Any] | None) -> None:
        """Remember the project that was just created; None after its removal."""
        self._project = project


class Kind:
    """One kind of resource: its look-up, spec and changes. The fields of a spec are those of the module's option."""

    label = ""  # name of the kind in messages
    service = ""  # the service whose API it is
    immutable: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    replaceable = False

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client

    def lookup(self, spec: Spec) -> State:
        """The resource as its service returns it; of several with the same name ours, if there is one."""
        raise NotImplementedError(self.label)

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        """The same resource in the form of the spec."""
        raise NotImplementedError(self.label)

    def desired(self, spec: Spec) -> State:
        raise NotImplementedError(self.label)

    def apply(self, spec: Spec, plan: Plan) -> State:
        raise NotImplementedError(self.label)

    def ours(self, raw: dict[str, t.Any]) -> bool:
        return is_ours(raw.get("description"), self.context.tag)

    def immutable_fields(self, spec: Spec) -> tuple[str, ...]:
        """Fields that cannot be changed in place; more than `immutable` where that depends on the spec."""
        return self.immutable

    def changed_secrets(self, spec: Spec, current: State) -> t.Collection[str]:
        return ()

    def find(self, spec: Spec) -> State:
        """The resource if it is ours or declared as existing; a foreign one of that name is refused, or ignored on removal."""
        raw = self.lookup(spec)
        existing = bool(spec.get("existing"))
        if self.context.absent:
            if raw is None or existing:
                return None
            if not self.ours(raw):
                self.context.warn(f"{self.label} {spec['name']} is not removed: it is not ours (it lacks [{self.context.tag}])")
                return None
        elif raw is None:
            if existing:
                raise Failure(
                    f"{self.label} {spec['name']} does not exist, or this account may not see it, but the inventory says existing: true",
                    self.service or SERVICE,
                    "missing",
                    {"kind": self.label, "name": spec["name"]},
                )
            return None
        elif not existing and not self.ours(raw):
            raise foreign(self.label, spec["name"], self.context.tag)
        return self.state_of(raw, spec)

    def own_id(self, spec: Spec) -> str | None:
        """The id of the resource if it exists and is ours."""
        raw = None if spec.get("existing") else self.lookup(spec)
        return str(raw["id"]) if raw and self.ours(raw) else None

    def pick(self, found: list[dict[str, t.Any]], spec: Spec) -> State:
        """One of several resources with the same name, preferably ours; more than one of ours is an error."""
        own = [raw for raw in found if self.ours(raw)]
        if len(own) > 1:
            raise Failure(
                f"{len(own)} {self.label}s named {spec['name']} carry our ownership tag; remove all but one of them: "
                f"{', '.join(str(raw['id']) for raw in own)}",
                self.service or SERVICE,
                "ambiguous",
                {"kind": self.label, "name": spec["name"]},
            )
        return own[0] if own else (found[0] if found else None)
