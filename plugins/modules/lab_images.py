#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_images
short_description: Bake the root trees of lab hosts
description:
  - Creates one Debian root tree per kind of host by C(mmdebstrap) and stores it under the hash of its inputs, which include the
    machine's certificate authorities. Several trees are baked in parallel if memory allows.
  - An interrupted bake does not disturb the next one, and two runs never bake the same tree at the same time.
  - Has to run as root on the machine that carries the lab.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  images:
    description:
      - The kinds of host, by name. Each has C(packages), a list of Debian packages over those in O(packages), and C(disabled_units), a
        list of patterns of systemd units that the packages enable and that the tree does not start.
    type: dict
    required: true
  packages:
    description: Packages of every kind.
    type: list
    elements: str
    default: []
  disabled_units:
    description: Patterns of units that no kind starts by itself.
    type: list
    elements: str
    default: []
  suite:
    description: The Debian release.
    type: str
    default: trixie
  components:
    description: Components of the archive.
    type: list
    elements: str
    default: [main]
  mirror:
    description: Mirror of the packages. The default is the one in the machine's own apt configuration.
    type: str
  proxies:
    description: Environment variables for the downloads, such as C(http_proxy).
    type: dict
    default: {}
  cache:
    description: Where the trees are kept.
    type: path
    default: /var/cache/distcloud-lab
  jobs:
    description: How many trees are baked at once; V(0) decides by memory and processors.
    type: int
    default: 0
  timeout:
    description: Seconds that one bake may take.
    type: int
    default: 1800
  purge:
    description: Remove every tree that no lab on this machine uses and that is not among O(images).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Bake two kinds of host
  hep.distcloud.lab_images:
    packages: [systemd-sysv, dbus, python3, openssh-server, ca-certificates, iproute2, sudo]
    images:
      base: {}
      cache:
        packages: [squid]
        disabled_units: ["squid*"]
  become: true

- name: Free the space of trees that nobody uses
  hep.distcloud.lab_images:
    images: {}
    purge: true
  become: true
"""

RETURN = r"""
trees:
  description: The root folder of each kind.
  returned: always
  type: dict
  sample: {base: /var/cache/distcloud-lab/0f3a/root}
seconds:
  description: How long each bake took; V(0) for what was already there.
  returned: always
  type: dict
  sample: {base: 21.3}
"""

import concurrent.futures
import os
import re

from ..module_utils._core.module import Failure
from ..module_utils._lab import image, outer
from ..module_utils._lab.module import LabModule

GIB = 1 << 30


def jobs_by_memory(available, cores, wanted):
    """How many bakes at once: a bake is bound by downloads and unpacking and may take 2 GiB of memory and page cache."""
    return max(1, min(wanted, cores + 1, available // (2 * GIB)))


def available_memory():
    with open("/proc/meminfo", encoding="utf-8") as handle:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", handle.read(), re.M)
    return int(match.group(1)) * 1024 if match else 0


class LabImages(LabModule):
    """Bake the missing trees into the cache."""

    result_key = "trees"

    @classmethod
    def argument_spec(cls):
        return dict(
            images=dict(type="dict", required=True),
            packages=dict(type="list", elements="str", default=[]),
            disabled_units=dict(type="list", elements="str", default=[]),
            suite=dict(type="str", default="trixie"),
            components=dict(type="list", elements="str", default=["main"]),
            mirror=dict(type="str"),
            proxies=dict(type="dict", default={}, no_log=True),
            cache=dict(type="path", default="/var/cache/distcloud-lab"),
            jobs=dict(type="int", default=0),
            timeout=dict(type="int", default=1800),
            purge=dict(type="bool", default=False),
        )

    def recipes(self, trusted):
        common = {name: self.params[name] for name in ("suite", "components", "packages", "disabled_units", "mirror")}
        if not self.params["images"]:
            return {}
        common["mirror"] = common["mirror"] or image.local_mirror()
        found = {}
        for name, spec in self.params["images"].items():
            unknown = sorted(set(spec or {}) - {"packages", "disabled_units"})
            if unknown:
                raise Failure(f"images.{name}: unknown field {', '.join(unknown)}; known are packages and disabled_units", "lab", "images")
            found[name] = image.recipe(name, spec or {}, common, trusted)
        return found

    def surplus(self, wanted):
        """Unused entries of the cache: needed neither by a lab nor by a running bake."""
        cache = self.params["cache"]
        used = {os.path.dirname(host["tree"]) for record in outer.lab_records() for host in outer.host_records(record["lab"]).values()}
        entries = sorted(os.listdir(cache)) if os.path.isdir(cache) else []
        digests = {name: re.sub(r"^\.bake-", "", name) for name in entries}
        baking = {digest for digest in digests.values() if outer.is_locked(f"bake-{digest}")}
        return [
            path
            for name, path in ((name, os.path.join(cache, name)) for name in entries)
            if path not in used | wanted and digests[name] not in baking and not (baking and name.endswith(".log"))
        ]

    def apply(self):
        trusted = image.authorities()
        recipes = self.recipes(trusted)
        cache = self.params["cache"]
        folders = {name: os.path.join(cache, image.digest(of)) for name, of in recipes.items()}
        missing = [name for name in recipes if not os.path.isdir(folders[name])]
        surplus = self.surplus(set(folders.values())) if self.params["purge"] else []
        seconds = {name: 0.0 for name in recipes}
        if not self.module.check_mode:
            # The largest first: it decides how long all of them take.
            missing.sort(key=lambda name: -len(recipes[name]["packages"]))
            jobs = self.params["jobs"] or jobs_by_memory(available_memory(), os.cpu_count() or 1, len(missing))
            with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
                proxies = {key: str(value) for key, value in self.params["proxies"].items() if value}
                work = {name: pool.submit(image.bake, recipes[name], cache, trusted, proxies, self.params["timeout"]) for name in missing}
                for name, future in work.items():
                    seconds[name] = future.result()
            for path in surplus:
                outer.remove_tree(path) if os.path.isdir(path) else os.unlink(path)
            if self.params["purge"] and os.path.isdir(cache) and not os.listdir(cache):
                os.rmdir(cache)
        before = sorted(path for name, path in folders.items() if name not in missing) + surplus
        return dict(
            changed=bool(missing or surplus),
            trees={name: os.path.join(folder, "root") for name, folder in folders.items()},
            seconds=seconds,
            diff=dict(before="".join(path + "\n" for path in before), after="".join(path + "\n" for path in sorted(folders.values()))),
        )


def main():
    LabImages.main()


if __name__ == "__main__":
    main()
