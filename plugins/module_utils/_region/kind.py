# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all kinds of resources in a region share: the rule of ownership and the look-up of projects and domains.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import Failure
from .._core.reconcile import Plan
from .._openstack.client import Client
from .rules import SERVICE, foreign, is_ours

Wish = t.Dict[str, t.Any]  # evaluated at run time, also by older Pythons
State = t.Optional[t.Dict[str, t.Any]]


class Context:
    """What the kinds of one call know together: the account, the mark, whether things shall be or not be, and ids already looked up."""

    def __init__(self, client: Client, mark: str, absent: bool, project: t.Optional[Wish], warn: t.Callable[[str], None]) -> None:
        self.client = client
        self.mark = mark
        self.absent = absent
        self.project = project
        self.warn = warn
        self._domains: dict[str, str] = {}
        self._project: t.Optional[dict[str, t.Any]] = None

    def domain_id(self, name: str) -> str:
        """The id of a domain given by name."""
        if name not in self._domains:
            found = self.client.list("identity", "/domains", "domains", name=name)
            if not found:
                raise Failure(
                    "domain %s does not exist in this region; see 'openstack domain list'" % name,
                    "keystone",
                    "no_domain",
                    {"field": "domain"},
                )
            self._domains[name] = found[0]["id"]
        return self._domains[name]

    def found_project(self) -> t.Optional[dict[str, t.Any]]:
        """Our project as Keystone has it; None while there is none."""
        if self._project is None and self.project is not None:
            domain = self.domain_id(self.project["domain"])
            found = self.client.list("identity", "/projects", "projects", name=self.project["name"], domain_id=domain)
            self._project = found[0] if found else None
        return self._project

    def project_id(self) -> t.Optional[str]:
        """The id of our project where one was named and exists."""
        found = self.found_project()
        return found["id"] if found else None

    def made_project(self, project: t.Optional[dict[str, t.Any]]) -> None:
        """Remember what was just created, or that it is gone."""
        self._project = project


class Kind:
    """One kind of resource: how to look for it, what is wished, how to get there. The fields of a wish are those of the module's option."""

    word = ""  # as a person calls it
    service = ""  # whose API
    immutable: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    replaceable = False

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client

    def look(self, wish: Wish) -> State:
        """The resource as its service has it; of several of one name ours, if there is one."""
        raise NotImplementedError(self.word)

    def state_of(self, raw: dict[str, t.Any], wish: Wish) -> dict[str, t.Any]:
        """The same in the words of the wish."""
        raise NotImplementedError(self.word)

    def desired(self, wish: Wish) -> State:
        raise NotImplementedError(self.word)

    def apply(self, wish: Wish, plan: Plan) -> State:
        raise NotImplementedError(self.word)

    def ours(self, raw: dict[str, t.Any]) -> bool:
        return is_ours(raw.get("description"), self.context.mark)

    def fixed_fields(self, wish: Wish) -> tuple[str, ...]:
        """Fields that cannot be changed in place; more than `immutable` where that depends on the wish."""
        return self.immutable

    def changed_secrets(self, wish: Wish, current: State) -> t.Collection[str]:
        return ()

    def find(self, wish: Wish) -> State:
        """The resource if it is ours, or is to be used as it is; a stranger of that name is refused, or left alone where we remove."""
        raw = self.look(wish)
        existing = bool(wish.get("existing"))
        if self.context.absent:
            if raw is None or existing:
                return None
            if not self.ours(raw):
                self.context.warn("%s %s is left alone: it is not ours (no [%s] in it)" % (self.word, wish["name"], self.context.mark))
                return None
        elif raw is None:
            if existing:
                raise Failure(
                    "%s %s does not exist, or this account may not see it, but the inventory says existing: true"
                    % (self.word, wish["name"]),
                    self.service or SERVICE,
                    "missing",
                    {"kind": self.word, "name": wish["name"]},
                )
            return None
        elif not existing and not self.ours(raw):
            raise foreign(self.word, wish["name"], self.context.mark)
        return self.state_of(raw, wish)

    def own_id(self, wish: Wish) -> t.Optional[str]:
        """The id of the resource where it is there and ours."""
        raw = None if wish.get("existing") else self.look(wish)
        return str(raw["id"]) if raw and self.ours(raw) else None

    def pick(self, found: list[dict[str, t.Any]], wish: Wish) -> State:
        """One of several resources of the wished name: ours before others'; two of ours are a riddle for a person."""
        own = [raw for raw in found if self.ours(raw)]
        if len(own) > 1:
            raise Failure(
                "there are %d %ss named %s that carry our mark; remove all but one of them: %s"
                % (len(own), self.word, wish["name"], ", ".join(str(raw["id"]) for raw in own)),
                self.service or SERVICE,
                "ambiguous",
                {"kind": self.word, "name": wish["name"]},
            )
        return own[0] if own else (found[0] if found else None)
