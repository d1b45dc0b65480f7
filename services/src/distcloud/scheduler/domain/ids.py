"""Ledger ids: the name of a VM in the ledger and its cloud, as a host and in the pool."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Final

_VM_ID: Final = re.compile(r"vm-[a-z2-7]{16}")


def new_vm_id() -> str:
    """`vm-` and 16 characters of base32: 80 random bits, valid as a host name."""
    return "vm-" + base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()


def is_vm_id(text: str) -> bool:
    return _VM_ID.fullmatch(text) is not None
