# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resources of the Cloud Scheduler: the server compares (it alone knows the secrets), the module base does the rest.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import BaseModule, Failure, InfoModule, ResourceModule
from .._core.reconcile import CREATE, DELETE, NONE, UPDATE, Plan, difference, reconcile
from .client import NotThere, SchedulerClient, connection_options


class SchedulerModule(BaseModule):
    """Connects to the scheduler."""

    service = "scheduler"
    client: SchedulerClient

    def connect(self) -> None:
        self.client = SchedulerClient(self.params)


class SchedulerResource(SchedulerModule, ResourceModule):
    """A resource under PUT and DELETE with a dry run.

    Subclasses give `item_options` (of one item, name and state excluded), `fields` (options that go into the wish) and `path`.
    """

    fields: tuple[str, ...] = ()
    parent_options: dict[str, t.Any] = {}

    @classmethod
    def item_options(cls) -> dict[str, t.Any]:
        raise NotImplementedError("%s says nothing about its items" % cls.__name__)

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        reset = {"type": "list", "elements": "str", "default": [], "choices": cls.resettable()}
        state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
        item = dict(cls.item_options(), state=state)
        if reset["choices"]:
            item["reset"] = reset
        plural = {"type": "list", "elements": "dict", "options": dict(item, name={"type": "str", "required": True})}
        spec = connection_options()
        spec.update(cls.parent_options)
        spec.update(item)
        spec["name"] = {"type": "str"}
        spec[cls.plural_key] = plural
        return spec

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
        raise NotImplementedError("%s has no path" % type(self).__name__)

    def find(self, item: dict[str, t.Any]) -> t.Optional[dict[str, t.Any]]:
        current: t.Optional[dict[str, t.Any]] = self.client.get_or_none(*self.path(item))
        return current

    def desired(self, item: dict[str, t.Any]) -> t.Optional[dict[str, t.Any]]:
        if item["state"] == "absent":
            return None
        wish = self.said(item, *self.fields)
        resets = item.get("reset") or []
        both = sorted(set(resets) & set(wish))
        if both:
            message = "%s: %s is both given and to be reset; do one of the two" % (self.name_of(item), ", ".join(both))
            raise Failure(message, self.service, "reset")
        wish.update(dict.fromkeys(resets))
        return wish

    def plan(self, item: dict[str, t.Any]) -> Plan:
        """The server's own answer to a dry run. Where it cannot know yet (check mode of a site to be built), what it would be."""
        wish = self.desired(item)
        try:
            return plan_of(self._send(item, wish, dry_run=True))
        except NotThere as failure:
            if not self.module.check_mode:
                raise
            warning = "%s: taken as a scheduler that is still to be installed" % failure.message
            return self._first_time(item, wish, (warning,))
        except Failure as failure:
            missing = failure.code == 404 and failure.details.get("type") in ("no-such-group", "no-such-cloud")
            if not (missing and self.module.check_mode):
                raise
            return self._first_time(item, wish, ("%s: taken as still to be created" % failure.message,))

    def _first_time(self, item: dict[str, t.Any], wish: t.Optional[dict[str, t.Any]], warnings: tuple[str, ...]) -> Plan:
        named = None if wish is None else dict(wish, name=item["name"])
        plan = reconcile(None, named, secrets=self.secrets)
        return Plan(plan.action, plan.before, plan.after, plan.fields, plan.secrets, warnings)

    def apply(self, item: dict[str, t.Any], plan: Plan) -> t.Optional[dict[str, t.Any]]:
        after: t.Optional[dict[str, t.Any]] = self._send(item, self.desired(item), dry_run=False)["after"]
        return after

    def _send(self, item: dict[str, t.Any], wish: t.Optional[dict[str, t.Any]], dry_run: bool) -> dict[str, t.Any]:
        if wish is None:
            return self.client.delete(self.path(item), dry_run=dry_run)
        return self.client.put(self.path(item), wish, dry_run=dry_run)


class SchedulerInfo(SchedulerModule, InfoModule):
    """Reads one named thing or all of a kind; the result is always a list."""

    parent_options: dict[str, t.Any] = {}

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return dict(connection_options(), name={"type": "str"}, **cls.parent_options)

    def path(self) -> list[str]:
        """Of the whole collection."""
        raise NotImplementedError("%s has no path" % type(self).__name__)

    def read(self) -> t.Any:
        name = self.params["name"]
        if name is None:
            return self.client.get_or_none(*self.path()) or []
        found = self.client.get_or_none(*self.path(), name)
        return [] if found is None else [found]


def plan_of(answer: dict[str, t.Any]) -> Plan:
    """The server's answer {changed, before, after, changed_secrets} as a plan."""
    before, after = answer.get("before"), answer.get("after")
    if not answer["changed"]:
        return Plan(NONE, before=before, after=after)
    action = CREATE if before is None else DELETE if after is None else UPDATE
    secrets = tuple(answer.get("changed_secrets") or ())
    fields = tuple(sorted(set(difference(before or {}, after or {})) | set(secrets)))
    return Plan(action, before=before, after=after, fields=fields, secrets=secrets)
