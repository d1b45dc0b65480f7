# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module private_directories on real directories; as root, those of another user, who cannot use root's rights."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hep.distcloud.plugins.modules import private_directories
from module_harness import Result, run_module

OTHER = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("runuser"), reason="needs root and runuser to act as another user")


def call(*paths: Path, user: str = getpass.getuser(), check: bool = False) -> Result:
    return run_module(
        private_directories.PrivateDirectories, {"user": user, "paths": [str(path) for path in paths]}, check=check, diff=True
    )


@pytest.fixture
def home() -> Iterator[Path]:
    """The directory of another user, who can reach it, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        made = Path(folder) / "home"
        made.mkdir(mode=0o700)
        account = pwd.getpwnam(OTHER)
        os.chown(made, account.pw_uid, account.pw_gid)
        yield made


def test_create_repair_and_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "one" / "two"
    dry = call(one, two, check=True)
    assert dry.changed and dry.data["paths"] == [str(one), str(two)] and not one.exists()
    done = call(one, two)
    assert (done.data["paths"], done.data["diff"]) == (dry.data["paths"], dry.data["diff"]) and two.is_dir()
    assert not call(one, two).changed
    two.chmod(0o755)
    dry, done = call(one, two, check=True), call(one, two)
    assert dry.data["paths"] == done.data["paths"] == [str(two)] and dry.data["diff"] == done.data["diff"]
    assert stat.S_IMODE(two.stat().st_mode) == 0o700 and call(one, two).data["diff"] == []


def test_check_mode_needs_no_user(tmp_path: Path) -> None:
    assert call(tmp_path / "one", user="nobody-here", check=True).data["paths"] == [str(tmp_path / "one")]
    assert call(tmp_path / "one", user="nobody-here").data["msg"] == "user nobody-here does not exist; create it first"


def test_file_instead_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        assert call(tmp_path / name).data["msg"] == f"{tmp_path / name} exists but is not a directory; remove it first"
    assert "file/below cannot be read: Not a directory" in call(tmp_path / "file" / "below").data["msg"]


@needs_root
@pytest.mark.security
def test_directories_belong_to_the_user(home: Path) -> None:
    assert call(home / "one", home / "one" / "two", user=OTHER).changed
    assert {(path.owner(), stat.S_IMODE(path.stat().st_mode)) for path in home.rglob("*")} == {(OTHER, 0o700)}


@needs_root
@pytest.mark.security
def test_link_in_the_path_gives_no_rights(home: Path) -> None:
    """The user replaced a parent directory by a link to a directory of root, after root has looked at it."""
    private = home.parent / "of root"
    private.mkdir(mode=0o755)
    (home / "one").symlink_to(private)
    result = call(home / "one" / "two", user=OTHER)
    assert result.failed and f"user {OTHER} cannot create {home}/one/two" in result.data["msg"]
    assert list(private.iterdir()) == []


@needs_root
@pytest.mark.security
def test_foreign_owner_is_refused(home: Path) -> None:
    (home / "one").mkdir(mode=0o755)
    result = call(home / "one", user=OTHER)
    assert result.failed and f"{home}/one belongs to user id 0 and not to {OTHER}" in result.data["msg"]
    assert stat.S_IMODE((home / "one").stat().st_mode) == 0o755
