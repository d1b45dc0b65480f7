"""The KVM probe of role lab_openstack: its guest really runs, and its verdict depends on when the guest prints its marker."""

from __future__ import annotations

import importlib.util
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles" / "lab_openstack" / "files" / "probe_kvm.py"


@pytest.fixture
def probe() -> Any:
    spec = importlib.util.spec_from_file_location("probe_kvm", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_boot_sector_parts_do_not_overlap(probe: Any) -> None:
    sector = probe.boot_sector()
    assert len(sector) == 512 and sector[510:] == b"\x55\xaa"
    assert len(probe.REAL_MODE) <= 0x20 and len(probe.PROTECTED_MODE) <= 0x30 and 0x60 + len(probe.MARKER) + 2 <= 0xA0
    assert probe.MARKER in sector


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="this machine has no qemu-system-x86_64")
def test_emulated_guest_prints_its_marker(probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < probe.time_to_marker("tcg", 60) < 60
    monkeypatch.setattr(probe, "boot_sector", lambda: bytes(510) + b"\x55\xaa")
    assert probe.time_to_marker("tcg", 1) == math.inf, "another guest shows none"


def test_missing_device_skips_the_probe(probe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "time_to_marker", lambda *_words: pytest.fail("a guest was started"))
    assert probe.answer(20, tmp_path / "kvm") == "qemu"


@pytest.mark.parametrize(
    ("emulated", "virtual", "expected"),
    [(0.5, 0.3, "kvm"), (0.5, 1.4, "kvm"), (0.5, 1.6, "qemu"), (0.5, math.inf, "qemu"), (math.inf, 3.0, "kvm"), (math.inf, 21.0, "qemu")],
)
def test_kvm_must_be_as_fast_as_emulation(
    probe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulated: float, virtual: float, expected: str
) -> None:
    def time_to_marker(accelerator: str, seconds: float) -> float:
        needed = emulated if accelerator == "tcg" else virtual
        return needed if needed < seconds else math.inf

    monkeypatch.setattr(probe, "time_to_marker", time_to_marker)
    (tmp_path / "kvm").touch()
    assert probe.answer(20, tmp_path / "kvm") == expected


def test_without_qemu_there_is_no_kvm(probe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "kvm").touch()
    assert probe.answer(20, tmp_path / "kvm") == "qemu"
