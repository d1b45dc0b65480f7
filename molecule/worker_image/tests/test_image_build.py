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
    [f"mol-builder: Write program, recipe and manifest ({CACHE}/{name})" for name in names]
    for names in ([f"program/{module}.py" for module in ("__main__", "_process", "disk", "packages", "tree")], ["recipe.json"])
)
BUILT = "mol-builder: Build the image"


@pytest.fixture
def record():
    return json.loads((STATE / "worker.json").read_text("utf-8"))


def test_image_is_only_on_the_control_node(host, record):
    image = Path(record["file"])
    assert hashlib.sha512(image.read_bytes()).hexdigest() == record["sha512"]
    assert image.read_bytes()[:4] == b"QFI\xfb", "a qcow2 image"
    manifest = json.loads(Path(record["manifest"]).read_text("utf-8"))
    assert {"condor", "cloud-init", "chrony", "openssh-server"} <= {package["name"] for package in manifest["packages"]}
    assert STATE.stat().st_mode & 0o077 == 0
    assert host.run(f"find {CACHE} -name '*.qcow2'").stdout == "", "the builder keeps no copy"


@pytest.mark.parametrize(
    ("variables", "why", "changed"),
    [
        ({}, "", []),
        ({"worker_image_rebuild": True}, "worker_image_rebuild is set", [BUILT]),
        ({"worker_image_extra_packages": ["tmux"]}, "its inputs changed", [*RECIPE, BUILT]),
        ({"worker_image_slot_users": 9}, "its inputs changed", [*RECIPE, BUILT]),
        ({"worker_image_name_prefix": "of-another-name"}, "", []),
    ],
)
def test_check_reports_build_and_reason(converge, record, variables, why, changed):
    dry = converge.run("--check", **variables)
    assert (dry.changed, dry.failures) == (changed, {})
    assert f"A worker image is built on mol-builder: {why}." in dry.messages["mol-builder"] or not why
    assert json.loads((STATE / "worker.json").read_text("utf-8")) == record


@pytest.mark.parametrize("spoil", [lambda image: image.unlink(), lambda image: image.write_bytes(b"half of it")])
def test_lost_or_damaged_image_is_rebuilt(converge, record, spoil):
    image = Path(record["file"])
    kept = image.rename(image.with_suffix(".kept"))
    kept.with_suffix(".qcow2").write_bytes(b"")
    try:
        spoil(image)
        dry = converge.run("--check")
        assert dry.changed == [BUILT]
        assert any("its file is missing or has other content" in line for line in dry.messages["mol-builder"])
    finally:
        kept.rename(image)
    assert converge.run("--check").changed == []


def test_check_predicts_the_build(host, converge, record):
    """The image is missing, and the builder is new except for its packages."""
    Path(record["file"]).unlink()
    host.check_output(f"cd {CACHE} && rm -r output program recipe.json")
    assert converge.repairs_drift() == ["mol-builder: Create the builder's output directory", *PROGRAM, *RECIPE, BUILT]
    again = json.loads((STATE / "worker.json").read_text("utf-8"))
    assert hashlib.sha512(Path(again["file"]).read_bytes()).hexdigest() == again["sha512"]


def test_unknown_package_keeps_the_old_image(converge, record):
    failed = converge.run(worker_image_extra_packages=["no-such-package"])
    assert "Unable to locate package no-such-package" in failed.failures["mol-builder"]
    assert json.loads((STATE / "worker.json").read_text("utf-8")) == record
    assert converge.run("--check").changed == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"worker_image_compression": "rar"}, "worker_image_compression"),
        ({"worker_image_slot_users": "many"}, "worker_image_slot_users"),
        ({"worker_image_manifest": "/nonexistent/manifest.json"}, "/nonexistent/manifest.json"),
    ],
)
def test_invalid_variable_is_named(converge, variables, words):
    assert words in converge.refuses(**variables)
