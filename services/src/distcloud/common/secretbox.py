"""Secrets at rest, encrypted with Fernet keys from a file that only the service's user can read.

The first key of the file encrypts; every key decrypts. To rotate a key, put a new one on top and remove the old one
once everything has been encrypted again.
"""

from __future__ import annotations

import hmac
import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from .files import write_atomic


class SecretError(Exception):
    """A key file or an encrypted secret is unusable; the message says which and what to do, never the secret."""


class SecretBox:
    """Encrypts and decrypts texts."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SecretError("no key given: a key file holds at least one Fernet key")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise SecretError("invalid Fernet key; it should be 32 bytes in URL-safe base64 (44 characters)") from error

    @classmethod
    def from_file(cls, path: Path | str) -> SecretBox:
        """Reads keys, one a line, newest first; lines that are empty or begin with # are skipped."""
        file = Path(path)
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            text = file.read_text(encoding="ascii")
        except FileNotFoundError as error:
            raise SecretError(f"{file}: key file is missing; restore it, or the secrets in the database cannot be decrypted") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"{file}: key file cannot be read: {error}") from error
        if mode & 0o007:
            raise SecretError(f"{file}: key file is readable by everybody (mode {mode:04o}); make it 0600 or 0640")
        keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        try:
            return cls(keys)
        except SecretError as error:
            raise SecretError(f"{file}: {error}") from error

    @staticmethod
    def create_file(path: Path | str) -> None:
        """Writes a new key with mode 0600, atomically. Raises FileExistsError: without its key a stored secret is lost."""
        write_atomic(path, Fernet.generate_key().decode("ascii") + "\n", mode=0o600, replace=False)

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode("utf-8")).decode("ascii")

    def open(self, token: str) -> str:
        try:
            return self._fernet.decrypt(token.encode("ascii")).decode("utf-8")
        except (InvalidToken, UnicodeEncodeError) as error:
            raise SecretError("a stored secret cannot be decrypted with the keys of this service; was the key file replaced?") from error

    def seal_mapping(self, secrets: Mapping[str, str]) -> str:
        """The secrets of one resource as one token, for one column."""
        return self.seal(json.dumps(dict(secrets), sort_keys=True))

    def open_mapping(self, token: str | None) -> dict[str, str]:
        """The secrets in a token of `seal_mapping`; none for None."""
        opened: dict[str, str] = {} if token is None else json.loads(self.open(token))
        return opened

    def open_readable(self, token: str | None) -> dict[str, str]:
        """As `open_mapping`, but empty if the key does not match: such secrets are required again and reported as changed."""
        try:
            return self.open_mapping(token)
        except SecretError:
            return {}

    def same(self, token: str | None, candidate: str) -> bool:
        """Whether `candidate` is what `token` holds; takes the same time whatever the difference."""
        if token is None:
            return False
        return hmac.compare_digest(self.open(token).encode("utf-8"), candidate.encode("utf-8"))
