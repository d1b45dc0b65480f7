# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base of the lab's modules: options, locks, errors as messages. Private to the collection."""

from __future__ import annotations

import contextlib
import typing as t

from .._core.module import BaseModule, Failure
from . import outer, plan

LAB_OPTIONS: dict[str, t.Any] = {
    "lab": {"type": "str", "required": True},
    "stop_timeout": {"type": "int", "default": 60},
    "lock_timeout": {"type": "int", "default": 600},
}


class LabModule(BaseModule):
    """Subclasses implement `apply`, which does the work and returns the result; in check mode it only predicts it."""

    service = "lab"

    def locks(self) -> tuple[str, ...]:
        """Names of the locks to hold, in order; check mode takes none."""
        return ()

    def apply(self) -> dict[str, t.Any]:
        """The module's result, `changed` among it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement apply")

    def run(self) -> None:
        try:
            if "lab" in self.params:
                # The name becomes part of paths, beginning with those of the locks.
                plan.check_lab_name(self.params["lab"])
            with contextlib.ExitStack() as held:
                for name in () if self.module.check_mode else self.locks():
                    held.enter_context(outer.locked(name, self.params["lock_timeout"]))
                result = self.apply()
        except plan.SpecError as error:
            self.fail(Failure(str(error), self.service, "invalid"))
        except Failure as failure:
            self.fail(failure)
        self.module.exit_json(**result)
