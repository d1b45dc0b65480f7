"""File locks: timeouts, cancellation, and no leaked descriptors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from distcloud.common.storage.locks import FileLock


def open_on(path: Path) -> int:
    """Number of this process's descriptors of that file."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += entry.samefile(path)
        except FileNotFoundError:  # the one of this very listing
            continue
    return found


def test_cancelled_wait_leaves_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    async def main() -> None:
        async with FileLock(path, wait=60.0) as held:
            waits = asyncio.create_task(FileLock(path, wait=60.0).__aenter__())
            await asyncio.sleep(0)
            assert open_on(path) == 2
            waits.cancel()
            await asyncio.wait([waits])
            assert waits.cancelled() and open_on(path) == 1 and await held.held()
        assert open_on(path) == 0

    asyncio.run(main())


def test_second_holder_times_out_or_goes_without(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    async def main() -> None:
        async with FileLock(path, wait=0.1):
            with pytest.raises(TimeoutError, match="is locked by another process"):
                await FileLock(path, wait=0.1).__aenter__()
            async with FileLock(path, wait=0.0) as second:
                assert not await second.held() and open_on(path) == 1
        async with FileLock(path, wait=0.1) as third:
            assert await third.held()

    asyncio.run(main())


def test_failed_lock_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    path = tmp_path / "lock"
    monkeypatch.setattr("distcloud.common.storage.locks.fcntl.flock", refuses)
    with pytest.raises(OSError, match="No locks available"):
        asyncio.run(FileLock(path, wait=60.0).__aenter__())
    assert open_on(path) == 0
