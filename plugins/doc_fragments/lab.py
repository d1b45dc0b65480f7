# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of modules that work on one lab."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  lab:
    description: Name of the lab.
    type: str
    required: true
  stop_timeout:
    description: Seconds that a host may take to power off before it is killed.
    type: int
    default: 60
  lock_timeout:
    description: Seconds to wait for another run that works on the lab.
    type: int
    default: 600
"""
