"""Atomic writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distcloud.common.files import write_atomic, write_if_changed


def test_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    write_atomic(path, "n\u00e9w", mode=0o640)
    assert path.read_text("utf-8") == "n\u00e9w"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_existing_file_is_kept_on_request(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        write_atomic(path, "new", replace=False)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_if_changed(path, "a")
    written = path.stat().st_ino
    assert not write_if_changed(path, "a")
    assert path.stat().st_ino == written
    assert write_if_changed(path, "b")
