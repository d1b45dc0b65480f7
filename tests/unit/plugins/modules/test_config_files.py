# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module config_files on real files: {create, no-op, update} x {normal, check, diff}, secrets hidden, refused files not installed."""

from __future__ import annotations

import getpass
import grp
import os
import stat

import pytest
from ansible_collections.hep.distcloud.plugins.modules import config_files
from module_harness import run_module

OWN = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def call(*files, **options):
    specs = [dict(OWN, **{key: str(value) for key, value in file.items()}) for file in files]
    return run_module(config_files.ConfigFiles, {"files": specs}, **options)


def test_create_update_and_nothing(tmp_path):
    one, two = tmp_path / "new" / "one.conf", tmp_path / "two.conf"
    files = [{"path": one, "content": "a = 1\n"}, {"path": two, "content": "b = 2\n", "mode": "0600"}]
    checked = call(*files, check=True)
    assert checked.changed and checked.data["paths"] == [str(one), str(two)] and not two.exists()
    done = call(*files)
    assert done.data["paths"] == checked.data["paths"] and done.data["diff"] == checked.data["diff"]
    assert one.read_text() == "a = 1\n" and stat.S_IMODE(two.stat().st_mode) == 0o600
    before = two.stat()
    again = call(*files)
    assert not again.changed and again.data["diff"] == [] and two.stat().st_mtime_ns == before.st_mtime_ns
    changed = call(files[0], dict(files[1], content="b = 3\n"))
    assert changed.data["paths"] == [str(two)] and two.read_text() == "b = 3\n"


def test_mode_without_content_keeps_content(tmp_path):
    path = tmp_path / "a.conf"
    call({"path": path, "content": "x\n"})
    number = path.stat().st_ino
    assert call({"path": path, "content": "x\n", "mode": "0640"}).changed
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and path.stat().st_ino == number


@pytest.mark.parametrize(
    "text",
    [
        "password = verysecretword\n",
        "connection = mysql+pymysql://nova:verysecretword@127.0.0.1/nova\n",
        "transport_url = rabbit://u:verysecretword@h/\n",
        '{"users": [{"name": "u", "password": "verysecretword"}]}\n',
        "-----BEGIN EC PRIVATE KEY-----\nverysecretword\n-----END EC PRIVATE KEY-----\n",
    ],
)
def test_secrets_are_in_no_output(tmp_path, text):
    path = tmp_path / "secret.conf"
    first = call({"path": path, "content": "open = 1\n" + text}, diff=True)
    assert "verysecretword" not in first.raw and "open = 1" in first.data["diff"][0]["after"]
    assert "verysecretword" not in first.logged and "Invoked with files" in first.logged
    other = call({"path": path, "content": "open = 1\n" + text.replace("verysecretword", "anothersecret")}, diff=True)
    assert other.changed and "secretword" not in other.raw and "anothersecret" not in other.raw
    assert "a hidden value differs" in other.data["diff"][0]["after"]


def test_refused_file_is_not_installed(tmp_path):
    path = tmp_path / "a.conf"
    call({"path": path, "content": "good\n"})
    refused = call({"path": path, "content": "bad\n", "validate": "grep -q good %s"})
    assert refused.failed and "is unchanged" in refused.data["msg"] and path.read_text() == "good\n"
    assert os.listdir(tmp_path) == ["a.conf"]
    assert call({"path": path, "content": "as good\n", "validate": "grep -q good %s"}).changed


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"mode": "rw"}, "quoted octal"), ({"owner": "nobody-here"}, "unknown user"), ({"validate": "true"}, "%s")],
)
def test_errors_name_the_file_and_the_field(tmp_path, wrong, word):
    result = call(dict({"path": tmp_path / "a.conf", "content": "x\n"}, **wrong))
    assert result.failed and word in result.data["msg"] and "a.conf" in result.data["msg"]


def test_error_names_conflicting_directory(tmp_path):
    result = call({"path": tmp_path, "content": "x\n"})
    assert result.failed and "not a file" in result.data["msg"]


def test_created_directories_are_readable_despite_umask(tmp_path):
    path = tmp_path / "one" / "two" / "file.conf"
    before = os.umask(0o077)
    try:
        assert call({"path": path, "content": "x\n"}).changed
    finally:
        os.umask(before)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in path.parents[:2]] == [0o755, 0o755]


class WithToken(config_files.ConfigFiles):
    """The module with an additional secret option."""

    @classmethod
    def argument_spec(cls):
        return dict(super().argument_spec(), token={"type": "str", "no_log": True})


def test_other_secrets_stay_masked(tmp_path):
    path = tmp_path / "sometoken.conf"
    result = run_module(WithToken, {"files": [dict(OWN, path=str(path), content="open = sometoken\n")], "token": "sometoken"}, diff=True)
    assert result.changed and path.read_text() == "open = sometoken\n"
    assert "sometoken" not in result.raw and "open = " in result.data["diff"][0]["after"]


def test_failed_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "not now")

    monkeypatch.setattr("os.replace", refuse)
    result = call({"path": tmp_path / "a.conf", "content": "x\n"})
    assert result.failed and "a.conf: not now" in result.data["msg"] and os.listdir(tmp_path) == []
