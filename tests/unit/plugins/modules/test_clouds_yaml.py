# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module clouds_yaml on a real file: other entries are kept, even with concurrent writers; secrets stay hidden."""

from __future__ import annotations

import copy
import multiprocessing
import stat

import pytest
import yaml
from ansible_collections.hep.distcloud.plugins.modules import clouds_yaml
from module_harness import run_module

ENTRY = {"auth": {"auth_url": "https://r.example.org:5000/v3", "username": "admin", "password": "verysecretword"}, "region_name": "r"}


def call(path, name="one", entry=None, state="present", **options):
    params = {"path": str(path), "name": name, "state": state}
    if state == "present":
        params["entry"] = copy.deepcopy(entry or ENTRY)
    return run_module(clouds_yaml.CloudsYaml, params, **options)


def read(path):
    return yaml.safe_load(path.read_text())["clouds"]


def test_full_circle(tmp_path):
    path = tmp_path / "new" / "clouds.yaml"
    assert call(path, check=True, diff=True).changed and not path.exists()
    made = call(path, diff=True)
    assert made.changed and "verysecretword" not in made.raw + made.logged and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path) == {"one": ENTRY}
    assert not call(path).changed
    call(path, "two", {"region_name": "s"})
    other = dict(ENTRY, auth=dict(ENTRY["auth"], password="anothersecret"))
    changed = call(path, entry=other, diff=True)
    assert changed.changed and "anothersecret" not in changed.raw and "verysecretword" not in changed.raw
    assert read(path) == {"one": other, "two": {"region_name": "s"}}
    assert call(path, state="absent", check=True).changed and "one" in read(path)
    assert call(path, state="absent").changed and read(path) == {"two": {"region_name": "s"}}
    assert not call(path, state="absent").changed


@pytest.mark.parametrize("more", [{"cacert": "/old/ca.pem"}, {"auth": dict(ENTRY["auth"], user_domain_id="default")}])
def test_unnamed_keys_are_reported_and_removed(tmp_path, more):
    path = tmp_path / "clouds.yaml"
    call(path, entry=dict(ENTRY, **more))
    checked = call(path, check=True, diff=True)
    assert checked.changed and read(path) == {"one": dict(ENTRY, **more)}
    shown = checked.data["diff"]
    assert set(shown["after"]) == set(ENTRY) and set(shown["after"]["auth"]) == set(ENTRY["auth"])
    assert call(path).changed and read(path) == {"one": ENTRY} and not call(path).changed


@pytest.mark.parametrize("name", clouds_yaml.SECRETS)
def test_output_hides_only_secrets(tmp_path, name):
    entry = {"auth": {"auth_url": "https://r.example.org:5000/v3", name.split(".")[1]: "verysecretword"}, "region_name": "r"}
    made = call(tmp_path / "clouds.yaml", entry=entry, check=True, diff=True)
    assert made.changed and "verysecretword" not in made.raw + made.logged
    assert "Invoked with" in made.logged and made.data["cloud"]["region_name"] == "r"
    assert made.data["cloud"]["auth"]["auth_url"] == "https://r.example.org:5000/v3"


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "clouds.yaml"
    names = [f"cloud-{number}" for number in range(4)]
    processes = multiprocessing.get_context("fork")
    writers = [processes.Process(target=call, args=(path, name, {"region_name": name})) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(read(path)) == names


@pytest.mark.parametrize("text", ["clouds: [a]\n", "- a\n", "a: [\n"])
def test_invalid_file_is_not_changed(tmp_path, text):
    path = tmp_path / "clouds.yaml"
    path.write_text(text)
    result = call(path)
    assert result.failed and str(path) in result.data["msg"] and path.read_text() == text


def test_secret_repeated_in_entry_stays_masked(tmp_path):
    entry = dict(ENTRY, region_name="verysecretword")
    result = call(tmp_path / "clouds.yaml", entry=entry, diff=True)
    assert result.changed and read(tmp_path / "clouds.yaml") == {"one": entry}
    assert "verysecretword" not in result.raw + result.logged and "https://r.example.org" in result.raw
