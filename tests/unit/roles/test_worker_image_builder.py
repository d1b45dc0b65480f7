"""Pure parts of the worker image builder: manifests, repositories, boot records, paths inside the image."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import sys
import tarfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "roles" / "worker_image" / "files" / "builder"
sys.path.insert(0, str(FOLDER))

import disk  # noqa: E402
import packages  # noqa: E402
import tree  # noqa: E402
from _process import BuildError, run  # noqa: E402

BASH = packages.Package("bash", "amd64", "5.2-1", "aa" * 32, 10)
TOOL = packages.Package("tool", "all", "1:2.0~rc1-3", "bb" * 32, 20)
MANIFEST = packages.Manifest("trixie", "amd64", 1700000000, (TOOL, BASH))


def test_manifest_round_trip_ignores_order(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(MANIFEST.text())
    again = packages.read_manifest(path)
    assert again.text() == MANIFEST.text() == packages.Manifest("trixie", "amd64", 1700000000, (BASH, TOOL)).text()
    assert set(again.packages) == {BASH, TOOL}


def test_rebuild_keeps_the_manifests_sources(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(dataclasses.replace(MANIFEST, sources=("deb http://mirror.example.org/debian trixie main",)).text())
    again = packages.read_manifest(path)
    assert again.text() == path.read_text() and json.loads(path.read_text())["format"] == 2
    assert again.sources_list(["deb http://snapshot.example.org/ trixie main"]) == "deb http://mirror.example.org/debian trixie main\n"


def test_manifest_without_sources_uses_those_of_the_build(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(MANIFEST.text())
    assert json.loads(path.read_text())["format"] == 1 and packages.read_manifest(path).text() == path.read_text(), "its hash stays"
    assert packages.read_manifest(path).sources_list(["deb a", "deb b"]) == "deb a\ndeb b\n"


@pytest.mark.parametrize(
    "body", ["{", "[]", json.dumps({"format": 1}), json.dumps({"format": 2}), json.dumps({"format": 99, "suite": "x"})]
)
def test_error_names_invalid_manifest(tmp_path: Path, body: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(body)
    with pytest.raises(BuildError, match=r"manifest\.json"):
        packages.read_manifest(path)


def test_epoch_is_escaped_in_file_names() -> None:
    assert TOOL.file == "tool_1%3a2.0~rc1-3_all.deb"


def test_apt_plan_is_parsed() -> None:
    line = "Inst libc6 (2.41-12 Debian:13.1/stable, Debian-Security:13/stable-security [amd64]) []"
    match = packages.INSTALLED.match(line)
    assert match and match.groupdict() == {"name": "libc6", "version": "2.41-12", "architecture": "amd64"}


def test_paragraphs_with_continuation_lines() -> None:
    text = "Package: a\nDescription: short\n long\n .\nSize: 1\n\nPackage: b\n"
    assert packages.stanzas(text) == [{"Package": "a", "Description": "short\n long\n .", "Size": "1"}, {"Package": "b"}]


def test_package_time_is_read_from_header(tmp_path: Path) -> None:
    deb = tmp_path / BASH.file
    deb.write_bytes(b"!<arch>\n" + b"debian-binary   1699999999  0     0     100644  4         `\n2.0\n")
    assert packages.newest(tmp_path, [BASH]) == 1699999999


def test_differences_say_what_is_wrong() -> None:
    assert packages.differences(MANIFEST, {"bash": "5.2-1", "tool": "1:2.0~rc1-3"}) == []
    found = packages.differences(MANIFEST, {"bash": "5.3", "more": "1"})
    assert found == sorted(
        [
            "bash: the manifest has 5.2-1, 5.3 is installed",
            "more 1 is installed but not in the manifest",
            "tool 1:2.0~rc1-3 is in the manifest but not installed",
        ]
    )


def test_boot_record_has_one_active_linux_partition(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(2 * disk.MIB))
    disk.write_boot_record(image, b"B" * 512, b"CORE", sectors=4096, signature=0x64636C64)
    record = image.read_bytes()[: disk.SECTOR + 4]
    assert record[:440] == b"B" * 440 and record[440:444] == b"dlcd" and record[510:] == b"\x55\xaaCORE"
    active, _first, kind, _last, start, sectors = struct.unpack("<B3sB3sII", record[446:462])
    assert (active, kind, start, sectors) == (0x80, 0x83, 2048, 4096)


def test_oversized_boot_loader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        disk.write_boot_record(tmp_path / "disk.raw", bytes(512), bytes(disk.START), sectors=1, signature=1)


def test_size_counts_whole_blocks(tmp_path: Path) -> None:
    path = tmp_path / "root.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(300):
            member = tarfile.TarInfo(f"small{number}")
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    assert disk.content_mib(path) == 2


def test_nothing_is_written_outside_the_image(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "etc").symlink_to(outside)
    with pytest.raises(BuildError, match="leads out of the image"):
        tree.write(root, "/etc/passwd", "x", "0644")
    tree.write(root, "/usr/lib/new/file", "text", "0755")
    assert (root / "usr/lib/new/file").read_text() == "text" and (root / "usr/lib/new/file").stat().st_mode & 0o777 == 0o755


def test_error_names_misspelled_unit(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd/system"
    folder.mkdir(parents=True)
    (folder / "serial-getty@.service").write_text("")
    assert tree.has_unit(tmp_path, "serial-getty@ttyS0.service")
    with pytest.raises(BuildError, match=r"units\.enable.*sshd-socket"):
        tree.set_units(tmp_path, {"enable": ["sshd-socket"]})


def test_error_quotes_failing_program() -> None:
    with pytest.raises(BuildError, match=r"trying: sh ended with 3:\nwhy"):
        run(["sh", "-c", "echo why >&2; exit 3"], what="trying")
    with pytest.raises(BuildError, match="not installed on the builder"):
        run(["no-such-program-at-all"], what="trying")
