# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab's modules have in common: options, locks, errors as messages. Private to the collection."""

from __future__ import annotations

import contextlib
import typing as t

from .._core.module import BaseModule, Failure
from . import outer, plan

OPTIONS_OF_A_LAB: dict[str, t.Any] = {
    "lab": {"type": "str", "required": True},
    "stop_timeout": {"type": "int", "default": 60},
    "lock_timeout": {"type": "int", "default": 600},
}


class LabModule(BaseModule):
    """Subclasses give `bring`, which works and answers the result; in check mode it only tells."""

    service = "lab"

    def locks(self) -> tuple[str, ...]:
        """What nobody else may work on meanwhile, in the order in which it is taken; a check takes no lock."""
        return ()

    def bring(self) -> dict[str, t.Any]:
        """The module's result, `changed` among it."""
        raise NotImplementedError("%s does not say what to do" % type(self).__name__)

    def run(self) -> None:
        try:
            if "lab" in self.params:
                # It becomes part of paths, of the locks' to begin with.
                plan.check_lab_name(self.params["lab"])
            with contextlib.ExitStack() as held:
                for name in () if self.module.check_mode else self.locks():
                    held.enter_context(outer.locked(name, self.params["lock_timeout"]))
                result = self.bring()
        except plan.WishError as error:
            self.fail(Failure(str(error), self.service, "wish"))
        except Failure as failure:
            self.fail(failure)
        self.module.exit_json(**result)
