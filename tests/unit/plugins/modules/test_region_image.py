# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module region_image on replayed HTTP: name and hash, leftovers, verification of uploads, check mode."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hep.distcloud.plugins.modules.region_image import RegionImage
from module_harness import run_module
from region_replay import LOGIN, Call, replay

CONTENT = b"an image"
SHA512 = hashlib.sha512(CONTENT).hexdigest()
MODES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, t.Any]:
    path = tmp_path / "worker.qcow2"
    path.write_bytes(CONTENT)
    return {
        **LOGIN,
        "name": "worker",
        "path": str(path),
        "sha512": SHA512,
        "min_disk": 1,
        "properties": {"hw_disk_bus": "virtio", "distcloud_build": 7},
    }


def image(**changes: t.Any) -> dict[str, t.Any]:
    """An image in Glance's format: as in the spec, with changes."""
    base = {
        "id": "i1",
        "name": "worker",
        "status": "active",
        "owner": "project-1",
        "visibility": "private",
        "disk_format": "qcow2",
        "container_format": "bare",
        "min_disk": 1,
        "min_ram": 0,
        "protected": False,
        "tags": [],
        "os_hash_algo": "sha512",
        "os_hash_value": SHA512,
        "created_at": "2026-01-01",
        "file": "/v2/images/i1/file",
        "hw_disk_bus": "virtio",
        "distcloud_build": "7",
        "others": "own",
    }
    return {**base, **changes}


def listing(*images: dict[str, t.Any]) -> Call:
    return Call("GET", "image", "/images", {"images": list(images)}, query={"name": "worker"})


CREATED = {
    "name": "worker",
    "disk_format": "qcow2",
    "container_format": "bare",
    "visibility": "private",
    "min_disk": 1,
    "hw_disk_bus": "virtio",
    "distcloud_build": "7",
}


def upload(*after: dict[str, t.Any]) -> list[Call]:
    return [
        Call("POST", "image", "/images", image(status="queued", os_hash_value=None), status=201, body=CREATED),
        Call("PUT", "image", "/images/i1/file", status=204),
        *(Call("GET", "image", "/images/i1", one) for one in after),
    ]


@pytest.mark.parametrize("check,diff", MODES)
def test_uploads_what_is_not_there(spec: dict[str, t.Any], check: bool, diff: bool) -> None:
    with replay(listing(), *([] if check else upload(image(status="saving"), image()))) as region:
        result = run_module(RegionImage, spec, check=check, diff=diff)
        sent = [one for one in region.mocker.request_history if one.method == "PUT"]
    assert result.changed and not result.failed, result.data
    assert result.data["diff"]["before"] == {}
    assert len(sent) == (0 if check else 1)
    if not check:
        assert result.data["image"]["id"] == "i1" and result.data["image"]["sha512"] == SHA512


@pytest.mark.parametrize("check,diff", MODES)
def test_same_content_is_unchanged(spec: dict[str, t.Any], check: bool, diff: bool) -> None:
    with replay(listing(image())):
        result = run_module(RegionImage, spec, check=check, diff=diff)
    assert not result.changed and not result.failed, result.data
    assert result.data["image"]["properties"]["others"] == "own"


@pytest.mark.parametrize("check,diff", MODES)
def test_changes_properties_in_place(spec: dict[str, t.Any], check: bool, diff: bool) -> None:
    there = image(distcloud_build="6", min_disk=2)
    patch = [{"op": "replace", "path": "/distcloud_build", "value": "7"}, {"op": "replace", "path": "/min_disk", "value": 1}]
    calls = [] if check else [Call("PATCH", "image", "/images/i1", image(), body=patch), Call("GET", "image", "/images/i1", image())]
    with replay(listing(there), *calls):
        result = run_module(RegionImage, spec, check=check, diff=diff)
    builds = [result.data["diff"][when]["properties"]["distcloud_build"] for when in ("before", "after")]
    assert result.changed and builds == ["6", "7"]


@pytest.mark.parametrize("status", ["queued", "saving", "killed"])
@pytest.mark.parametrize("check", [False, True])
def test_replaces_what_an_upload_left_over(spec: dict[str, t.Any], status: str, check: bool) -> None:
    calls = [] if check else [Call("DELETE", "image", "/images/i0", status=204), *upload(image())]
    with replay(listing(image(id="i0", status=status, os_hash_value=None)), *calls):
        result = run_module(RegionImage, spec, check=check)
    assert result.changed and not result.failed, result.data


def test_image_of_another_project_is_ignored(spec: dict[str, t.Any]) -> None:
    with replay(listing(image(id="foreign", owner="project-2")), *upload(image())):
        assert run_module(RegionImage, spec).changed


def test_takes_back_what_arrived_otherwise(spec: dict[str, t.Any]) -> None:
    with replay(listing(), *upload(image(os_hash_value="00")), Call("DELETE", "image", "/images/i1", status=204)):
        result = run_module(RegionImage, spec)
    assert result.failed and result.data["failure"]["code"] == "mismatch"


def test_takes_back_what_was_refused(spec: dict[str, t.Any]) -> None:
    refused = Call("PUT", "image", "/images/i1/file", {"error": {"message": "no room"}}, status=413)
    with replay(listing(), upload()[0], refused, Call("DELETE", "image", "/images/i1", status=204)):
        result = run_module(RegionImage, spec)
    assert result.failed and result.data["failure"]["code"] == 413 and "no room" in result.data["msg"]


PROTECT = Call("PATCH", "image", "/images/i1", image(protected=True), body=[{"op": "replace", "path": "/protected", "value": True}])


def test_is_protected_only_once_it_is_active(spec: dict[str, t.Any]) -> None:
    """Otherwise Glance would refuse to delete the leftover of an interrupted upload, and every later run would fail."""
    calls = [*upload(image(status="saving"), image()), PROTECT, Call("GET", "image", "/images/i1", image(protected=True))]
    with replay(listing(), *calls):
        result = run_module(RegionImage, {**spec, "protected": True})
    assert result.changed and not result.failed, result.data
    assert result.data["image"]["protected"] is True
    with replay(listing(image(protected=True))):
        assert not run_module(RegionImage, {**spec, "protected": True}).changed


def test_failed_upload_of_protected_image_is_retried(spec: dict[str, t.Any]) -> None:
    protected = {**spec, "protected": True}
    refused = Call("PUT", "image", "/images/i1/file", {"error": {"message": "no room"}}, status=413)
    with replay(listing(), upload()[0], refused, Call("DELETE", "image", "/images/i1", status=204)):
        assert run_module(RegionImage, protected).failed
    # A run that was killed during the upload undoes nothing.
    left_over = listing(image(id="i0", status="saving", os_hash_value=None))
    again = [Call("DELETE", "image", "/images/i0", status=204), *upload(image()), PROTECT]
    with replay(left_over, *again, Call("GET", "image", "/images/i1", image(protected=True))):
        result = run_module(RegionImage, protected)
    assert result.changed and not result.failed, result.data


def test_next_run_protects_interrupted_upload(spec: dict[str, t.Any]) -> None:
    protected = {**spec, "protected": True}
    busy = Call("PATCH", "image", "/images/i1", {"error": {"message": "too busy"}}, status=503)
    with replay(listing(), *upload(image()), busy):
        result = run_module(RegionImage, protected)
    assert result.failed and result.data["failure"]["code"] == 503 and result.changed
    with replay(listing(image()), PROTECT, Call("GET", "image", "/images/i1", image(protected=True))):
        result = run_module(RegionImage, protected)
    assert result.changed and result.data["image"]["protected"] is True


def test_unprotected_image_needs_no_extra_request(spec: dict[str, t.Any]) -> None:
    with replay(listing(), *upload(image())):
        assert run_module(RegionImage, {**spec, "protected": False}).changed


def test_same_name_with_other_content_is_refused(spec: dict[str, t.Any]) -> None:
    with replay(listing(image(os_hash_value="00"))):
        result = run_module(RegionImage, spec)
    assert result.failed and result.data["failure"]["code"] == "immutable"


def test_glance_with_different_hash_algorithm(spec: dict[str, t.Any]) -> None:
    with replay(listing(image(os_hash_algo="sha256", os_hash_value=hashlib.sha256(CONTENT).hexdigest()))):
        assert not run_module(RegionImage, spec).changed


def test_changed_file_is_not_uploaded(spec: dict[str, t.Any]) -> None:
    Path(spec["path"]).write_bytes(b"something else")
    with replay(listing()):
        result = run_module(RegionImage, spec)
    assert result.failed and result.data["failure"]["service"] == "file"


@pytest.mark.parametrize("check,diff", MODES)
def test_absent_removes_all_of_the_name(spec: dict[str, t.Any], check: bool, diff: bool) -> None:
    calls = [] if check else [Call("DELETE", "image", f"/images/{name}", status=204) for name in ("i1", "i2")]
    with replay(listing(image(), image(id="i2", status="queued"), image(id="foreign", owner="other")), *calls):
        result = run_module(RegionImage, {**LOGIN, "name": "worker", "state": "absent"}, check=check, diff=diff)
    assert result.changed and result.data["image"] is None


def test_absent_twice() -> None:
    with replay(listing()):
        assert not run_module(RegionImage, {**LOGIN, "name": "worker", "state": "absent"}).changed


def test_refused_login_gives_structured_failure(spec: dict[str, t.Any]) -> None:
    with replay(login=401):
        result = run_module(RegionImage, spec)
    assert result.failed and result.data["failure"]["code"] == 401 and "the-accounts-password" not in result.raw
