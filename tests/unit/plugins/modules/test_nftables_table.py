# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module nftables_table against a stand-in for nft whose kernel is a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hep.distcloud.plugins.modules import nftables_table
from module_harness import Result, run_module

# Loading joins the base rules and the files that they include; a broken file is refused.
NFT = """#!/bin/sh
kernel=${KERNEL:-%(kernel)s}
case "$1" in
--file)
    grep -q broken "$2" && { echo "syntax error" >&2; exit 1; }
    folder=$(sed -n 's/^include "\\(.*\\)[*].*/\\1/p' "$2")
    { grep -v ^include "$2"; cat "$folder"*.nft 2>/dev/null; } > "$kernel"
    exit 0 ;;
--stateless) cat "$kernel" 2>/dev/null ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    nft = tmp_path / "nft"
    nft.write_text(NFT % {"kernel": tmp_path / "kernel"})
    nft.chmod(0o755)
    (tmp_path / "nftables.d").mkdir()
    scratch = ["env", f"KERNEL={tmp_path / 'namespace'}", "sh", "-ec", f'{nft} --file "$1"; {nft} --stateless', "sh"]
    monkeypatch.setattr(nftables_table, "NFT", str(nft))
    monkeypatch.setattr(nftables_table, "SERVICES", str(tmp_path / "nftables.d"))
    monkeypatch.setattr(nftables_table, "LIST", [str(nft), "--stateless"])
    monkeypatch.setattr(nftables_table, "IN_NAMESPACE", scratch)
    monkeypatch.setattr(nftables_table.write_rules, "__defaults__", (str(tmp_path / "nftables.d"),))
    return tmp_path


def call(host: Path, check: bool = False, base: str = "drop\n", **options: Any) -> Result:
    text = f'{base}include "{host}/nftables.d/*.nft"\n'
    if not check:
        (host / "nftables.conf").write_text(text)
    return run_module(nftables_table.NftablesTable, {"file": str(host / "nftables.conf"), "base": text, **options}, check=check)


def test_differing_rules_are_loaded_once(host: Path) -> None:
    (host / "nftables.d" / "web.nft").write_text("accept 8080\n")
    dry = call(host, check=True)
    assert dry.changed and dry.data["rules"] == "drop\naccept 8080\n" and not (host / "kernel").exists()
    applied = call(host)
    assert applied.changed and applied.data["diff"] == dry.data["diff"] == {"before": "", "after": "drop\naccept 8080\n"}
    assert (host / "kernel").read_text() == "drop\naccept 8080\n"
    assert not call(host).changed


def test_services_replace_files_and_empty_text_removes_them(host: Path) -> None:
    (host / "nftables.d" / "web.nft").write_text("accept 8080\n")
    (host / "nftables.d" / "admin.nft").write_text("accept 9100\n")
    result = call(host, check=True, services={"web": "", "other": "accept 9000\n"})
    assert result.data["rules"] == "drop\naccept 9100\naccept 9000\n"


def test_predicted_rules_count_only_in_check_mode(host: Path) -> None:
    assert not call(host, check=True, predicted="drop\n").changed
    assert call(host, predicted="drop\n").changed


def test_invalid_rules_are_refused(host: Path) -> None:
    for check in (True, False):
        result = call(host, check=check, base="broken\n")
        assert result.failed and result.data["msg"].endswith("the configured rules are invalid, nothing was changed: syntax error")


def test_check_mode_works_without_nftables(host: Path) -> None:
    os.unlink(host / "nft")
    result = call(host, check=True)
    assert result.changed and result.data["rules"] is None
