# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""apt_sources_info: both forms of apt's configuration, lists of mirrors, and what other machines cannot reach."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._core import apt_sources as apt
from ansible_collections.hep.distcloud.plugins.modules import apt_sources_info
from module_harness import Result, run_module

ONE_LINE = """deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main
deb-src http://src.example/debian bookworm main
# deb http://no bookworm main
deb file:/media/debian trixie main
"""
DEB822 = """Types: deb
# a remark
URIs: http://mirror2.example/debian/
Suites: trixie trixie-updates
 trixie-backports
Components: main contrib

Types: deb
URIs: http://sec.example
Suites: trixie-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example
Suites: trixie
Components: main
"""
MIRRORS = """Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: trixie
Components: main
"""


def ask(root: Path, files: dict[str, str], release: str = "trixie", check: bool = False) -> Result:
    """The module's result on a machine with these files under /etc/apt."""
    for name, text in files.items():
        path = root / "etc/apt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with mock.patch.object(apt_sources_info, "local_sources", lambda: apt.local_sources(str(root))):
        return run_module(apt_sources_info.AptSourcesInfo, {"release": release}, check=check)


@pytest.mark.parametrize("check", [False, True])
def test_both_forms_without_what_others_cannot_reach(tmp_path: Path, check: bool) -> None:
    files = {"sources.list": ONE_LINE, "sources.list.d/debian.sources": DEB822, "sources.list.d/again.list": DEB822.split("\n\n")[1]}
    result = ask(tmp_path, files, check=check)
    assert not result.changed
    assert result.data["sources"] == [
        "deb http://sec.example trixie-security main",
        "deb http://mirror2.example/debian trixie main contrib",
        "deb http://mirror2.example/debian trixie-updates main contrib",
    ]
    assert ask(tmp_path, {}, "bookworm").data["sources"] == ["deb http://mirror.example/debian bookworm main"]


def test_mirror_list_resolves_to_first_mirror(tmp_path: Path) -> None:
    files = {
        "sources.list.d/debian.sources": MIRRORS,
        "mirrors/debian.list": "# near\nhttps://near.example/debian/ priority:1\nhttp://far.example\n",
    }
    assert ask(tmp_path, files).data["sources"] == ["deb https://near.example/debian trixie main"]


def test_missing_sources_are_reported(tmp_path: Path) -> None:
    result = ask(tmp_path, {"sources.list.d/debian.sources": MIRRORS})
    assert result.failed and result.data["msg"].startswith("release: /etc/apt on this host has no http source of Debian trixie")
