# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes `ansible_collections.hep.distcloud` importable under plain pytest; `ansible-test units` has done so already."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "support"))

# The machine is shared and may stall at any time, so the duration of an example means nothing.
with contextlib.suppress(ImportError):
    import hypothesis

    hypothesis.settings.register_profile("shared_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("shared_machine")


def _importable() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.hep.distcloud.plugins") is not None
    except ImportError:
        return False


if not _importable():
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    for name in [name for name in sys.modules if name.split(".")[0] == "ansible_collections"]:
        del sys.modules[name]
    checkout = HERE.parents[2]
    root = checkout / ".collections"
    if not (root / "ansible_collections/hep/distcloud").exists():
        root = checkout.parents[2]  # an unpacked artifact: .../ansible_collections/hep/distcloud
    _AnsibleCollectionFinder(paths=[str(root)])._install()
