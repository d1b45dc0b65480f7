"""Secrets at rest: encrypted, decrypted, compared, and never shown in an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from distcloud.common.secretbox import SecretBox, SecretError


def test_secret_round_trip_and_comparison(tmp_path: Path) -> None:
    path = tmp_path / "key"
    SecretBox.create_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    box = SecretBox.from_file(path)
    token = box.seal("geheim-ä")
    assert "geheim" not in token and box.open(token) == "geheim-ä"
    assert box.same(token, "geheim-ä") and not box.same(token, "other") and not box.same(None, "geheim-ä")
    with pytest.raises(FileExistsError):
        SecretBox.create_file(path)
    assert SecretBox.from_file(path).open(token) == "geheim-ä"
    assert list(tmp_path.iterdir()) == [path]


def test_key_file_is_created_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_descriptor: int) -> None:
        assert not (tmp_path / "key").exists(), "nobody sees it before it is on the disk"
        raise OSError("cut off")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="cut off"):
        SecretBox.create_file(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_key_rotation_keeps_old_secrets_readable(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    token = SecretBox([old]).seal("x")
    path.write_text(f"# newest first\n{new}\n\n{old}\n")
    path.chmod(0o640)
    box = SecretBox.from_file(path)
    assert box.open(token) == "x"
    with pytest.raises(SecretError, match="cannot be decrypted"):
        SecretBox([old]).open(box.seal("y"))


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("not a key\n", 0o600, "invalid Fernet key"),
        ("", 0o600, "no key"),
        ("x", 0o644, "readable by everybody"),
        ("\udcff", 0o600, "cannot be read"),
    ],
)
def test_error_names_unusable_key_file(tmp_path: Path, text: str, mode: int, words: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    with pytest.raises(SecretError, match=words) as caught:
        SecretBox.from_file(path)
    assert str(path) in str(caught.value)


def test_error_names_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="missing"):
        SecretBox.from_file(tmp_path / "key")


def test_secrets_of_a_resource_are_one_token() -> None:
    box, other = (SecretBox([Fernet.generate_key().decode()]) for _ in range(2))
    token = box.seal_mapping({"password": "p", "token": "t"})
    assert "password" not in token and box.open_mapping(token) == box.open_readable(token) == {"password": "p", "token": "t"}
    assert box.open_mapping(None) == {}
    assert other.open_readable(token) == {}
    with pytest.raises(SecretError):
        other.open_mapping(token)
