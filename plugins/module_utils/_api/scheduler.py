# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is particular to the Cloud Scheduler's API.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

from .resource import ApiInfo, ApiResource


class SchedulerResource(ApiResource):
    service = "scheduler"
    parent_problems = ("no-such-group", "no-such-cloud")


class SchedulerInfo(ApiInfo):
    service = "scheduler"
