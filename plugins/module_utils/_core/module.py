# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module of the collection has in common: check mode, diff, `changed`, failures, plural form.

A module says how to find, what is wished and how to apply; it cannot forget the rest, because the rest is only here.
Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from .reconcile import (
    NONE,
    REPLACE,
    Plan,
    given,
    reconcile,
    shown_diff,
)


class Failure(Exception):
    """Something went wrong that a person has to know, in words for that person.

    ``service`` is who refused (scheduler, keystone, ...), ``code`` a stable word or HTTP status, ``details`` whatever helps,
    ``changed`` whether something was changed before it came to that.
    """

    def __init__(
        self,
        message: str,
        service: str,
        code: t.Union[str, int],
        details: t.Optional[dict[str, t.Any]] = None,
        changed: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.service = service
        self.code = code
        self.details = details or {}
        self.changed = changed


class BaseModule:
    """Holds the AnsibleModule; `service` names who is spoken to, `result_key` where the result stands."""

    service: str = ""
    result_key: str = ""
    supports_check_mode = True

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        """The module's options."""
        raise NotImplementedError("%s says nothing about its options" % cls.__name__)

    @classmethod
    def constraints(cls) -> dict[str, t.Any]:
        """required_if, mutually_exclusive and the like, as keyword arguments of AnsibleModule."""
        return {}

    @classmethod
    def main(cls) -> None:
        """Entry point of a module's file."""
        module = AnsibleModule(argument_spec=cls.argument_spec(), supports_check_mode=cls.supports_check_mode, **cls.constraints())
        cls(module).run()

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, t.Any] = module.params

    def connect(self) -> None:
        """Make clients, after the options were validated; an SDK is imported here and nowhere earlier."""

    def run(self) -> None:
        """Do the work and leave by exit_json or fail_json."""
        raise NotImplementedError("%s does not say what to do" % type(self).__name__)

    def fail(self, failure: Failure, **result: t.Any) -> t.NoReturn:
        self.module.fail_json(
            msg=failure.message,
            failure={"service": failure.service, "code": failure.code, "details": failure.details},
            **result,
        )
        raise AssertionError("fail_json returned")


class ResourceModule(BaseModule):
    """A module that brings one resource, or a list of them, to the wished state.

    ``plural_key`` is the option (and result) that carries a list of items; empty where there is no plural form.
    Subclasses give `find`, `desired` and `apply`, and `name_of` for the diff's header. All take the item: the module's own
    options in the singular form, one element of the list in the plural.
    """

    plural_key: str = ""
    immutable: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    entire: bool = False

    def find(self, item: dict[str, t.Any]) -> t.Optional[dict[str, t.Any]]:
        """Read the resource from the world; None where there is none."""
        raise NotImplementedError("%s cannot find" % type(self).__name__)

    def desired(self, item: dict[str, t.Any]) -> t.Optional[dict[str, t.Any]]:
        """The wish: only the fields that were said; None for absent."""
        raise NotImplementedError("%s has no wish" % type(self).__name__)

    def apply(self, item: dict[str, t.Any], plan: Plan) -> t.Optional[dict[str, t.Any]]:
        """Carry out the plan; the state that results, without secrets. Never called in check mode or without a change."""
        raise NotImplementedError("%s cannot apply" % type(self).__name__)

    def name_of(self, item: dict[str, t.Any]) -> str:
        """What a person calls the item."""
        return str(item["name"])

    def changed_secrets(self, item: dict[str, t.Any], current: t.Optional[dict[str, t.Any]]) -> t.Collection[str]:
        """Which of the given secrets differ from those in place, where somebody can tell."""
        return ()

    def may_replace(self, item: dict[str, t.Any]) -> bool:
        """Whether a resource whose immutable field differs may be deleted and made anew."""
        return False

    def plan(self, item: dict[str, t.Any]) -> Plan:
        """What to do about one item; overridden only where the service itself compares."""
        current = self.find(item)
        return reconcile(
            current,
            self.desired(item),
            immutable=self.immutable,
            secrets=self.secrets,
            changed_secrets=self.changed_secrets(item, current),
            whole=self.whole,
            entire=self.entire,
        )

    def items(self) -> list[dict[str, t.Any]]:
        """The items to work on, in order."""
        if self.plural_key and self.params.get(self.plural_key) is not None:
            return list(self.params[self.plural_key])
        return [self.params]

    def extra_items(self) -> t.Iterable[dict[str, t.Any]]:
        """Items nobody listed that have to be worked on as well (removal of what is surplus); asked after the listed ones."""
        return ()

    def given_options(self, item: dict[str, t.Any], *names: str) -> dict[str, t.Any]:
        """Those of the named options that were given, without the ones that were left out."""
        wish: dict[str, t.Any] = given({name: item.get(name) for name in names})
        return wish

    def run(self) -> None:
        plural = bool(self.plural_key) and self.params.get(self.plural_key) is not None
        done: list[tuple[Plan, t.Optional[dict[str, t.Any]], str]] = []
        name = ""
        try:
            self.connect()
            for source in (self.items, self.extra_items):
                for item in source():
                    name = self.name_of(item)
                    done.append(self._bring(item, name))
        except Failure as failure:
            if plural and name:
                failure.details.setdefault("item", name)
            result = self._result(done, plural)
            result["changed"] = result["changed"] or failure.changed
            self.fail(failure, **result)
        self.module.exit_json(**self._result(done, plural))

    def _bring(self, item: dict[str, t.Any], name: str) -> tuple[Plan, t.Optional[dict[str, t.Any]], str]:
        plan = self.plan(item)
        for warning in plan.warnings:
            self.module.warn(warning)
        if plan.action == REPLACE and not self.may_replace(item):
            fixed = [field for field in plan.fields if any(field == stem or field.startswith(stem + ".") for stem in self.immutable)]
            raise Failure(
                "%s exists and its %s cannot be changed in place; remove it first or use another name" % (name, ", ".join(fixed)),
                self.service,
                "immutable",
                {"fields": fixed},
            )
        if plan.action == NONE or self.module.check_mode:
            return plan, plan.after, name
        return plan, self.apply(item, plan), name

    def _result(self, done: list[tuple[Plan, t.Optional[dict[str, t.Any]], str]], plural: bool) -> dict[str, t.Any]:
        changed = any(plan.changed for plan, after, name in done)
        result: dict[str, t.Any] = {"changed": changed}
        if plural:
            result[self.plural_key] = [after for plan, after, name in done if after is not None]
        elif done:
            result[self.result_key] = done[0][1]
        if changed:
            diffs = [shown_diff(plan, name) for plan, after, name in done if plan.changed]
            result["diff"] = diffs if plural else diffs[0]
        return result


class InfoModule(BaseModule):
    """A module that only reads; `read` gives what stands under the result key."""

    def read(self) -> t.Any:
        raise NotImplementedError("%s cannot read" % type(self).__name__)

    def run(self) -> None:
        try:
            self.connect()
            found = self.read()
        except Failure as failure:
            self.fail(failure)
        self.module.exit_json(changed=False, **{self.result_key: found})
