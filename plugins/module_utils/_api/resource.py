# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resources of an engine: the server compares (it alone knows the secrets), the module base does the rest.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import BaseModule, Failure, InfoModule, ResourceModule
from .._core.reconcile import CREATE, DELETE, NONE, UPDATE, Plan, difference, reconcile
from .client import ApiClient, NotListening, connection_options


class ApiModule(BaseModule):
    """Connects to the engine that the class attribute `service` names."""

    client: ApiClient

    def connect(self) -> None:
        self.client = ApiClient(self.service, self.params)


class ApiResource(ApiModule, ResourceModule):
    """A resource under PUT and DELETE with a dry run.

    Subclasses give `item_options` (of one item, name and state excluded), `fields` (options that go into the spec) and `path`.
    ``parent_problems`` are the problem types of a 404 that mean that what the resource belongs to does not exist.
    """

    parent_problems: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    parent_options: dict[str, t.Any] = {}

    @classmethod
    def item_options(cls) -> dict[str, t.Any]:
        raise NotImplementedError(f"{cls.__name__} does not declare its options")

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        reset = {"type": "list", "elements": "str", "default": [], "choices": cls.resettable()}
        state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
        item = dict(cls.item_options(), state=state)
        if reset["choices"]:
            item["reset"] = reset
        plural = {"type": "list", "elements": "dict", "options": dict(item, name={"type": "str", "required": True})}
        options = connection_options()
        options.update(cls.parent_options)
        options.update(item)
        options["name"] = {"type": "str"}
        options[cls.plural_key] = plural
        return options

    @classmethod
    def constraints(cls) -> dict[str, t.Any]:
        alone = [[cls.plural_key, "name"]]
        alone += [[cls.plural_key, name] for name, option in sorted(cls.item_options().items()) if "default" not in option]
        return {"mutually_exclusive": alone, "required_one_of": [["name", cls.plural_key]]}

    @classmethod
    def resettable(cls) -> list[str]:
        """Options whose value can be returned to the default."""
        return []

    def path(self, item: dict[str, t.Any]) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} does not declare its path")

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        current: dict[str, t.Any] | None = self.client.get_or_none(*self.path(item))
        return current

    def desired(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        if item["state"] == "absent":
            return None
        spec = self.given_options(item, *self.fields)
        resets = item.get("reset") or []
        both = sorted(set(resets) & set(spec))
        if both:
            message = f"{self.name_of(item)}: {', '.join(both)} is both set and reset; do one of the two"
            raise Failure(message, self.service, "reset")
        spec.update(dict.fromkeys(resets))
        return spec

    def plan(self, item: dict[str, t.Any]) -> Plan:
        """The server's response to a dry run. In check mode, for a server or parent that is still to be created, what it would be."""
        spec = self.desired(item)
        try:
            return plan_of(self._send(item, spec, dry_run=True))
        except NotListening as failure:
            if not self.module.check_mode:
                raise
            warning = f"{failure.message}; check mode assumes that it is still to be installed"
            return self._plan_for_missing(item, spec, (warning,))
        except Failure as failure:
            missing = failure.code == 404 and failure.details.get("type") in self.parent_problems
            if not (missing and self.module.check_mode):
                raise
            return self._plan_for_missing(item, spec, (f"{failure.message}; check mode assumes that it is still to be created",))

    def _plan_for_missing(self, item: dict[str, t.Any], spec: dict[str, t.Any] | None, warnings: tuple[str, ...]) -> Plan:
        named = None if spec is None else dict(spec, name=item["name"])
        plan = reconcile(None, named, secrets=self.secrets)
        return Plan(plan.action, plan.before, plan.after, plan.fields, plan.secrets, warnings)

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        after: dict[str, t.Any] | None = self._send(item, self.desired(item), dry_run=False)["after"]
        return after

    def _send(self, item: dict[str, t.Any], spec: dict[str, t.Any] | None, dry_run: bool) -> dict[str, t.Any]:
        if spec is None:
            return self.client.delete(self.path(item), dry_run=dry_run)
        return self.client.put(self.path(item), spec, dry_run=dry_run)


class ApiInfo(ApiModule, InfoModule):
    """Reads one named resource or all of a kind; the result is always a list."""

    parent_options: dict[str, t.Any] = {}

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return dict(connection_options(), name={"type": "str"}, **cls.parent_options)

    def path(self) -> list[str]:
        """Path of the whole collection."""
        raise NotImplementedError(f"{type(self).__name__} does not declare its path")

    def read(self) -> t.Any:
        name = self.params["name"]
        if name is None:
            return self.client.get_or_none(*self.path()) or []
        found = self.client.get_or_none(*self.path(), name)
        return [] if found is None else [found]


def plan_of(response: dict[str, t.Any]) -> Plan:
    """The server's response {changed, before, after, changed_secrets} as a plan."""
    before, after = response.get("before"), response.get("after")
    if not response["changed"]:
        return Plan(NONE, before=before, after=after)
    action = CREATE if before is None else DELETE if after is None else UPDATE
    secrets = tuple(response.get("changed_secrets") or ())
    fields = tuple(sorted(set(difference(before or {}, after or {})) | set(secrets)))
    return Plan(action, before=before, after=after, fields=fields, secrets=secrets)
