# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in a guest's tree: what differs, what is written, and that no link is followed out of the tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._core.module import Failure
from ansible_collections.hep.distcloud.plugins.module_utils._lab.guest import Tree, drifted, write
from ansible_collections.hep.distcloud.plugins.module_utils._lab.plan import GuestFile


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "lower/root/.ssh").mkdir(parents=True)
    (tmp_path / "lower/root").chmod(0o700)
    (tmp_path / "lower/etc").mkdir()
    (tmp_path / "lower/etc/hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "upper").mkdir()
    return Tree(str(tmp_path / "upper"), str(tmp_path / "lower"))


def test_written_once_and_then_at_rest(tree: Tree) -> None:
    files = [GuestFile("/etc/hosts", "10.0.0.1 a\n", block=True), GuestFile("/root/.ssh/authorized_keys", "key\n", 0o600)]
    found = drifted(tree, files)
    assert [drift.file.path for drift in found] == ["/etc/hosts", "/root/.ssh/authorized_keys"]
    write(tree, found)
    assert drifted(tree, files) == []
    assert (Path(tree.root) / "etc/hosts").read_text().startswith("127.0.0.1 localhost\n")
    assert (Path(tree.root) / "root").stat().st_mode & 0o777 == 0o700
    assert (Path(tree.root) / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600


def test_wrong_mode_is_drift(tree: Tree) -> None:
    file = GuestFile("/etc/key", "k", 0o600)
    write(tree, drifted(tree, [file]))
    (Path(tree.root) / "etc/key").chmod(0o644)
    assert len(drifted(tree, [file])) == 1


def test_secrets_are_not_shown(tree: Tree) -> None:
    found = drifted(tree, [GuestFile("/etc/key", "word", secret=True)])
    assert "word" not in found[0].before + found[0].after


def test_links_planted_by_the_guest_are_not_followed(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (Path(tree.root) / "etc").symlink_to(outside)
    with pytest.raises(Failure, match="is not a folder"):
        drifted(tree, [GuestFile("/etc/hosts", "x")])
    with pytest.raises(OSError, match="etc"):
        tree.write("/etc/hosts", "x", 0o644)
    assert list(outside.iterdir()) == []


def test_symlink_is_replaced_not_followed(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (Path(tree.root) / "etc").mkdir()
    (Path(tree.root) / "etc/hostname").symlink_to(outside)
    file = GuestFile("/etc/hostname", "a\n")
    write(tree, drifted(tree, [file]))
    assert outside.read_text() == "untouched"
    assert (Path(tree.root) / "etc/hostname").read_text() == "a\n" and not (Path(tree.root) / "etc/hostname").is_symlink()
