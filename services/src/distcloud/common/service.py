"""The runner of every engine: opens database and secrets, runs the engine's loop and its API side by side until a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from .config import EngineSettings
from .control import eventloop
from .control.loop import LockLost
from .http.server import serve
from .metrics import new_registry
from .secretbox import SecretBox, SecretError
from .storage.database import Database, DatabaseError, SchemaError
from .systemd import extended_timeout, watchdog

S = TypeVar("S", bound=EngineSettings)


class ServiceError(Exception):
    """The service cannot start or continue; the message has the reason and the remedy."""


class IncompatibleDatabase(ServiceError):
    """This release cannot use the database; starting it again is pointless until an operator acts."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the runner provides. Callbacks pushed on `cleanup` run before the database is closed."""

    database: Database
    secrets: SecretBox
    registry: CollectorRegistry
    cleanup: AsyncExitStack


@dataclass(frozen=True, slots=True)
class Components:
    """What an engine builds. `run` is its loop, until the event is set; `stuck` returns why it should be restarted, or nothing."""

    app: ASGIApp
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
    stuck: Callable[[], str]


class Service(Generic[S]):
    """An engine as a service. `package` has the engine's `migrations`; `build` makes its components from settings and runtime."""

    def __init__(self, package: str, build: Callable[[S, Runtime], Components]) -> None:
        self._package = package
        self._build = build

    def migrate(self, settings: S) -> None:
        """Migrate the database to the latest version. Raises ServiceError."""
        _complete(self._migrate(settings))

    def run(self, settings: S) -> None:
        """Run until SIGTERM, SIGINT or SIGHUP. Raises ServiceError, and ConfigError when the listener cannot start."""
        _complete(self._run(settings))

    async def _migrate(self, settings: S) -> None:
        database = Database(settings.database.url, settings.ENGINE)
        try:
            await database.migrate(self._package)
        finally:
            await database.close()

    async def _run(self, settings: S) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _stop_signals():
            loop.add_signal_handler(number, stop.set)
        secrets = SecretBox.from_file(settings.encryption_key_file)
        async with AsyncExitStack() as cleanup:
            database = Database(settings.database.url, settings.ENGINE)
            cleanup.push_async_callback(database.close)
            if not await _until(stop, database.migrate(self._package)):
                return
            engine = self._build(settings, Runtime(database, secrets, new_registry(), cleanup))
            # A stuck loop cannot recover by itself: without these signals systemd restarts the service.
            watching = asyncio.create_task(watchdog(engine.stuck, stop))
            await _side_by_side(serve(engine.app, settings.listen, stop), engine.run(stop), stop)
            await watching


def _stop_signals() -> list[signal.Signals]:
    """Nothing is read again on SIGHUP: it ends the service like the others, unless nohup(1) told to ignore it."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT] + ([] if ignored else [signal.SIGHUP])


def _complete(main: Coroutine[Any, Any, None]) -> None:
    try:
        eventloop.run(main)
    except SchemaError as error:
        raise IncompatibleDatabase(str(error)) from error
    except (DatabaseError, SecretError, LockLost) as error:
        raise ServiceError(str(error)) from error


async def _until(stop: asyncio.Event, migration: Coroutine[Any, Any, None]) -> bool:
    """Migrate, however long that takes; false when it was interrupted by `stop`, which rolls it back."""
    async with extended_timeout():
        migrating, stopping = asyncio.create_task(migration), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({migrating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            migrating.cancel()
            await asyncio.wait({migrating})
    if migrating.cancelled():
        return False
    migrating.result()
    return True


async def _side_by_side(api: Coroutine[Any, Any, None], engine: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Run both until `stop`; when one of them ends by itself the other is stopped as well, and its error is raised."""
    tasks = [asyncio.create_task(api, name="api"), asyncio.create_task(engine, name="engine")]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()
