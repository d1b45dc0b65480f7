"""What a service reports to systemd: its state, that it is alive, and that its start takes longer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable

from .logs import get_logger

log = get_logger(__name__)

_EXTENSION_SECONDS = 60.0


def notify(state: str) -> None:
    """Report the service's state to systemd (sd_notify(3), `Type=notify`); does nothing when systemd did not ask for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(5)
            manager.sendto(state.encode(), address)
    except OSError as error:
        log.warning("notify_failed", state=state, error=str(error))


async def watchdog(stuck: Callable[[], str], stop: asyncio.Event) -> None:
    """Ping systemd's watchdog (`WatchdogSec=`) three times per interval until `stop`, as long as `stuck` returns an empty text."""
    limit, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or pid not in ("", str(os.getpid())):
        return
    while not stop.is_set():
        if not stuck():
            notify("WATCHDOG=1")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), int(limit) / 3_000_000)


@contextlib.asynccontextmanager
async def extended_timeout(seconds: float = _EXTENSION_SECONDS) -> AsyncIterator[None]:
    """Lift systemd's limit on the current state (`TimeoutStartSec=`) for the body, as long as the event loop runs."""

    async def extend() -> None:
        while True:
            notify(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")
            await asyncio.sleep(seconds / 3)

    extending = asyncio.create_task(extend())
    try:
        yield
    finally:
        extending.cancel()
