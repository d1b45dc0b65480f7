"""What the build left on builder and control node, what a dry run announces, and bad input, which costs no image. That the bytes are the
same twice, and what a machine booted from them does, is tested in tests/integration/test_worker_image.py."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://mol-builder"]

STATE = Path.home() / ".local/state/distcloud" / f"lab-{os.environ.get('DISTCLOUD_LAB', 'test')}" / "molecule-images"
CACHE = "/var/cache/distcloud-worker-image"
PROGRAM, RECIPE = (
    [f"mol-builder: Program, recipe and manifest ({CACHE}/{name})" for name in names]
    for names in ([f"program/{module}.py" for module in ("__main__", "_process", "disk", "packages", "tree")], ["recipe.json"])
)
BUILT = "mol-builder: Build the image"


@pytest.fixture
def record():
    return json.loads((STATE / "worker.json").read_text("utf-8"))


def test_image_and_manifest_are_on_the_control_node_alone(host, record):
    image = Path(record["file"])
    assert hashlib.sha512(image.read_bytes()).hexdigest() == record["sha512"]
    assert image.read_bytes()[:4] == b"QFI\xfb", "a qcow2 image"
    manifest = json.loads(Path(record["manifest"]).read_text("utf-8"))
    assert {"condor", "cloud-init", "chrony", "openssh-server"} <= {package["name"] for package in manifest["packages"]}
    assert STATE.stat().st_mode & 0o077 == 0
    assert host.run(f"find {CACHE} -name '*.qcow2'").stdout == "", "the builder keeps no copy"


@pytest.mark.parametrize(
    ("wish", "why", "changed"),
    [
        ({}, "", []),
        ({"worker_image_rebuild": True}, "worker_image_rebuild asks for it", [BUILT]),
        ({"worker_image_extra_packages": ["tmux"]}, "its inputs changed", [*RECIPE, BUILT]),
        ({"worker_image_slot_users": 9}, "its inputs changed", [*RECIPE, BUILT]),
        ({"worker_image_name_prefix": "of-another-name"}, "", []),
    ],
)
def test_a_dry_run_says_whether_a_build_is_due_and_why(converge, record, wish, why, changed):
    dry = converge.run("--check", **wish)
    assert (dry.changed, dry.failures) == (changed, {})
    assert f"A worker image is built on mol-builder: {why}." in dry.told["mol-builder"] or not why
    assert json.loads((STATE / "worker.json").read_text("utf-8")) == record


@pytest.mark.parametrize("spoil", [lambda image: image.unlink(), lambda image: image.write_bytes(b"half of it")])
def test_an_image_that_was_lost_or_spoilt_is_due_again(converge, record, spoil):
    image = Path(record["file"])
    kept = image.rename(image.with_suffix(".kept"))
    kept.with_suffix(".qcow2").write_bytes(b"")
    try:
        spoil(image)
        dry = converge.run("--check")
        assert dry.changed == [BUILT]
        assert any("its file is missing or has another content" in line for line in dry.told["mol-builder"])
    finally:
        kept.rename(image)
    assert converge.run("--check").changed == []


def test_what_a_dry_run_says_of_a_build_is_what_is_then_done(host, converge, record):
    """The image is lost, and the builder is a new one but for its packages."""
    Path(record["file"]).unlink()
    host.check_output(f"cd {CACHE} && rm -r output program recipe.json")
    assert converge.mends() == ["mol-builder: Folder of the builder", *PROGRAM, *RECIPE, BUILT]
    again = json.loads((STATE / "worker.json").read_text("utf-8"))
    assert hashlib.sha512(Path(again["file"]).read_bytes()).hexdigest() == again["sha512"]


def test_a_package_that_nobody_has_is_named_and_the_old_image_stays(converge, record):
    failed = converge.run(worker_image_extra_packages=["no-such-package"])
    assert "Unable to locate package no-such-package" in failed.failures["mol-builder"]
    assert json.loads((STATE / "worker.json").read_text("utf-8")) == record
    assert converge.run("--check").changed == []


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"worker_image_compression": "rar"}, "worker_image_compression"),
        ({"worker_image_slot_users": "many"}, "worker_image_slot_users"),
        ({"worker_image_manifest": "/nonexistent/manifest.json"}, "/nonexistent/manifest.json"),
    ],
)
def test_bad_input_is_refused_by_name(converge, wish, words):
    assert words in converge.refuses(**wish)
