"""The minter's client over a real Unix socket, and the credentials of a VM."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from distcloud.scheduler.domain.model import Policy
from distcloud.scheduler.engine.minter_client import MinterSocket, MinterUnavailable, new_drain_key, token_lifetime
from distcloud.scheduler.worker.configuration import WorkerSettings

VM = "vm-aaaaaaaaaaaaaaaa"
BOUND = {"group": "physics", "cloud": "east", "region": "RegionOne", "alias": None}
WORKER = WorkerSettings(VM, "pool.test", "central.pool.test", "physics", cloud="east", region="RegionOne", vm_id=VM)


def served(folder: Path, reply: bytes | None, script: Callable[[MinterSocket, list[bytes]], Awaitable[None]]) -> None:
    async def main() -> None:
        asked: list[bytes] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readline())
            if reply is None:
                await reader.read()
            else:
                writer.write(reply)
            writer.close()

        server = await asyncio.start_unix_server(handle, folder / "s")
        await script(MinterSocket(folder / "s", seconds=60 if reply is not None else 0.5), asked)
        server.close()

    asyncio.run(main())


def test_mint_sends_one_line_and_returns_token(tmp_path: Path) -> None:
    async def script(minter: MinterSocket, asked: list[bytes]) -> None:
        assert await minter.mint(WORKER, 3600) == "a.b.c"
        assert json.loads(asked[0]) == {"verb": "mint", "worker": VM, **BOUND, "lifetime": 3600}

    served(tmp_path, b'{"token": "a.b.c"}\n', script)


def test_refuse_rounds_time_up_to_seconds(tmp_path: Path) -> None:
    async def script(minter: MinterSocket, asked: list[bytes]) -> None:
        await minter.refuse(VM, 1000.2)
        assert json.loads(asked[0]) == {"verb": "refuse", "worker": VM, "until": 1001}

    served(tmp_path, b'{"refused": 1}\n', script)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b'{"error": "lifetime: too long"}\n', "too long"),
        (b"", "socket"),
        (b"{}\n", "without a token"),
        (b"[]\n", "response is not a JSON object"),
        (None, "no answer"),
    ],
)
def test_invalid_minter_responses_are_reported(tmp_path: Path, reply: bytes | None, message: str) -> None:
    async def script(minter: MinterSocket, asked: list[bytes]) -> None:
        with pytest.raises(MinterUnavailable, match=message):
            await minter.mint(WORKER, 3600)

    served(tmp_path, reply, script)


def test_missing_minter_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(MinterUnavailable, match=r"distcloud-minter\.socket"):
        asyncio.run(MinterSocket(tmp_path / "none").mint(WORKER, 3600))


def test_drain_key_format_and_token_lifetime() -> None:
    keys = {new_drain_key() for _ in range(50)}
    assert len(keys) == 50 and all(len(base64.b64decode(key)) == 48 for key in keys)
    policy = Policy(max_vm_age=1000, drain_timeout=500)
    assert token_lifetime(policy) > 1500
