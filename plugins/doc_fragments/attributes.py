# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the collection's modules behave in check mode, diff mode and when run twice."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Predicts what would be changed without changing anything.
    support: full
  diff_mode:
    description: Shows the state before and after, with secrets hidden.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Predicts what would be changed without changing anything.
    support: full
    details:
      - This module only reads.
  diff_mode:
    description: Shows the state before and after, with secrets hidden.
    support: N/A
    details:
      - This module only reads.
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
    details:
      - This module only reads.
"""
