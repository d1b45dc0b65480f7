"""Credentials of a VM: a pool token from the minter, which only allows joining, and a key that authorizes draining it."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..domain.model import Policy
from ..worker.configuration import WorkerSettings

_KEY_BYTES = 48
_MARGIN = 3600.0  # the token must outlive the last drain, which starts at maximum age and takes drain_timeout
_ANSWER_AT_MOST = 65536


class MinterUnavailable(Exception):
    """The minter did not answer or refused; the message says which. It contains no token."""


class Minter(Protocol):
    """Signs worker tokens and revokes the identities of deleted VMs."""

    async def mint(self, worker: WorkerSettings, lifetime: int) -> str: ...

    async def refuse(self, vm_id: str, until: float) -> None: ...


def new_drain_key() -> str:
    """Generate the drain key of one VM: text that is written unchanged to the worker's key file."""
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode("ascii")


def token_lifetime(policy: Policy) -> int:
    """Lifetime of a pool token in seconds: the VM's maximum age and its longest drain. With less, a restarted collector
    would reject running workers."""
    return math.ceil(policy.max_vm_age + policy.drain_timeout + _MARGIN)


class MinterSocket:
    """Client of the minter's Unix socket, with one connection per request."""

    def __init__(self, socket: Path, *, seconds: float = 15.0) -> None:
        self._socket = socket
        self._seconds = seconds

    async def mint(self, worker: WorkerSettings, lifetime: int) -> str:
        bound = {"group": worker.group, "cloud": worker.cloud, "region": worker.region, "alias": worker.alias}
        answer = await self._ask({"verb": "mint", "worker": worker.ledger_id, **bound, "lifetime": lifetime})
        token = answer.get("token")
        if not isinstance(token, str) or not token:
            raise MinterUnavailable(f"minter at {self._socket}: answered without a token")
        return token

    async def refuse(self, vm_id: str, until: float) -> None:
        await self._ask({"verb": "refuse", "worker": vm_id, "until": math.ceil(until)})

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._seconds):
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=_ANSWER_AT_MOST)
                try:
                    writer.write(json.dumps(request).encode("ascii") + b"\n")
                    await writer.drain()
                    answer = json.loads(await reader.readline())
                finally:
                    writer.close()
        except TimeoutError as error:
            raise MinterUnavailable(f"minter at {self._socket}: no answer within {self._seconds:g} s") from error
        except (OSError, ValueError) as error:
            hint = "is distcloud-minter.socket running?"
            raise MinterUnavailable(f"minter at {self._socket}: {error or type(error).__name__}; {hint}") from error
        if not isinstance(answer, dict) or "error" in answer:
            raise MinterUnavailable(f"minter: {answer.get('error') if isinstance(answer, dict) else 'response is not a JSON object'}")
        return answer
