# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base of every module of the collection: check mode, diff, `changed`, failures, plural form.

A module implements `find`, `desired` and `apply`; it cannot forget the rest, because the rest is only here.
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
    """An error for the user: what is wrong and what to do about it.

    ``service`` is what refused (scheduler, keystone, ...), ``code`` a stable identifier or HTTP status, ``details`` further facts,
    ``changed`` whether something was changed before the failure.
    """

    def __init__(
        self,
        message: str,
        service: str,
        code: str | int,
        details: dict[str, t.Any] | None = None,
        changed: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.service = service
        self.code = code
        self.details = details or {}
        self.changed = changed


class _LoggedByName(AnsibleModule):
    """Keeps the values of options out of the host's journal: Ansible masks secrets there, but not inside lists and dictionaries."""

    def log(self, msg: t.Any, log_args: t.Any = None) -> None:
        if log_args:
            msg = "Invoked with " + ", ".join(sorted(log_args))
        super().log(msg)


class BaseModule:
    """Holds the AnsibleModule; `service` is the service that it calls, `result_key` the key of its result."""

    service: str = ""
    result_key: str = ""
    supports_check_mode = True

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        """The module's options."""
        raise NotImplementedError(f"{cls.__name__} does not declare its options")

    @classmethod
    def constraints(cls) -> dict[str, t.Any]:
        """required_if, mutually_exclusive and the like, as keyword arguments of AnsibleModule."""
        return {}

    @classmethod
    def main(cls) -> None:
        """Entry point of a module's file."""
        module = _LoggedByName(argument_spec=cls.argument_spec(), supports_check_mode=cls.supports_check_mode, **cls.constraints())
        cls(module).run()

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, t.Any] = module.params

    def connect(self) -> None:
        """Make clients, after the options were validated; an SDK is imported here and nowhere earlier."""

    def run(self) -> None:
        """Do the work and leave by exit_json or fail_json."""
        raise NotImplementedError(f"{type(self).__name__} does not implement run")

    def fail(self, failure: Failure, **result: t.Any) -> t.NoReturn:
        self.module.fail_json(
            msg=failure.message,
            failure={"service": failure.service, "code": failure.code, "details": failure.details},
            **result,
        )
        raise AssertionError("fail_json returned")


class ResourceModule(BaseModule):
    """A module that brings one resource, or a list of them, to the desired state.

    ``plural_key`` is the option (and result) that carries a list of items; empty where there is no plural form.
    Subclasses give `find`, `desired` and `apply`, and `name_of` for the diff's header. All take the item: the module's own
    options in the singular form, one element of the list in the plural.
    """

    plural_key: str = ""
    immutable: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    entire: bool = False

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """The current state of the resource; None if it does not exist."""
        raise NotImplementedError(f"{type(self).__name__} does not implement find")

    def desired(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """The spec: only the fields that were set; None for absent."""
        raise NotImplementedError(f"{type(self).__name__} does not implement desired")

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        """Carry out the plan; the state that results, without secrets. Never called in check mode or without a change."""
        raise NotImplementedError(f"{type(self).__name__} does not implement apply")

    def name_of(self, item: dict[str, t.Any]) -> str:
        """The item's name in messages and diffs."""
        return str(item["name"])

    def changed_secrets(self, item: dict[str, t.Any], current: dict[str, t.Any] | None) -> t.Collection[str]:
        """Which of the given secrets differ from the current ones, where this can be determined."""
        return ()

    def may_replace(self, item: dict[str, t.Any]) -> bool:
        """Whether a resource whose immutable field differs may be deleted and recreated."""
        return False

    def plan(self, item: dict[str, t.Any]) -> Plan:
        """The plan for one item; overridden only where the service itself compares."""
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
        """Items that are not listed but are processed as well (removal of surplus ones), after the listed ones."""
        return ()

    def given_options(self, item: dict[str, t.Any], *names: str) -> dict[str, t.Any]:
        """Those of the named options that were set."""
        spec: dict[str, t.Any] = given({name: item.get(name) for name in names})
        return spec

    def run(self) -> None:
        plural = bool(self.plural_key) and self.params.get(self.plural_key) is not None
        done: list[tuple[Plan, dict[str, t.Any] | None, str]] = []
        name = ""
        try:
            self.connect()
            for source in (self.items, self.extra_items):
                for item in source():
                    name = self.name_of(item)
                    done.append(self._reconcile_item(item, name))
        except Failure as failure:
            if plural and name:
                failure.details.setdefault("item", name)
            result = self._result(done, plural)
            result["changed"] = result["changed"] or failure.changed
            self.fail(failure, **result)
        self.module.exit_json(**self._result(done, plural))

    def _reconcile_item(self, item: dict[str, t.Any], name: str) -> tuple[Plan, dict[str, t.Any] | None, str]:
        plan = self.plan(item)
        for warning in plan.warnings:
            self.module.warn(warning)
        if plan.action == REPLACE and not self.may_replace(item):
            fixed = [field for field in plan.fields if any(field == stem or field.startswith(stem + ".") for stem in self.immutable)]
            raise Failure(
                f"{name} exists and its {', '.join(fixed)} cannot be changed in place; remove it first or use another name",
                self.service,
                "immutable",
                {"fields": fixed},
            )
        if plan.action == NONE or self.module.check_mode:
            return plan, plan.after, name
        return plan, self.apply(item, plan), name

    def _result(self, done: list[tuple[Plan, dict[str, t.Any] | None, str]], plural: bool) -> dict[str, t.Any]:
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
    """A module that only reads; `read` returns the value of the result key."""

    def read(self) -> t.Any:
        raise NotImplementedError(f"{type(self).__name__} does not implement read")

    def run(self) -> None:
        try:
            self.connect()
            found = self.read()
        except Failure as failure:
            self.fail(failure)
        self.module.exit_json(changed=False, **{self.result_key: found})
