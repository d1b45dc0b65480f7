"""The scheduler as a service: configuration in, engine and REST API running, until a signal says stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from ..common import eventloop
from ..common.database import Database, DatabaseError
from ..common.secretbox import SecretBox, SecretError
from ..common.server import serve, watchdog
from .api import create_app
from .catalog.catalog import Catalogue
from .drivers import make_driver
from .engine.engine import Engine, EngineLockLost
from .engine.metrics import Meters
from .engine.minter_client import MinterSocket
from .engine.monitor import Pace
from .engine.operations import WorkerContext
from .matching.subprocess_matcher import SubprocessMatcher
from .pool.htcondor import HtcondorPool, PoolAddress
from .settings import SchedulerSettings

log = structlog.get_logger(__name__)

PACKAGE = "distcloud.scheduler"


class ServiceError(Exception):
    """The service cannot start or go on; the message says why and what to do."""


def migrate(settings: SchedulerSettings) -> None:
    """Brings the database to the newest version. Raises ServiceError."""

    async def main() -> None:
        database = Database(settings.database.url)
        try:
            await database.migrate(PACKAGE)
        finally:
            await database.close()

    try:
        asyncio.run(main())
    except DatabaseError as error:
        raise ServiceError(str(error)) from error


def run(settings: SchedulerSettings) -> None:
    """Runs until SIGTERM or SIGINT. Raises ServiceError, and ConfigError when the listener cannot begin."""
    try:
        eventloop.run(_run(settings))
    except (DatabaseError, SecretError, EngineLockLost) as error:
        raise ServiceError(str(error)) from error


async def _run(settings: SchedulerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    box = SecretBox.from_file(settings.encryption_key_file)
    database = Database(settings.database.url)
    pool = HtcondorPool(
        PoolAddress(
            collector=settings.pool.collector,
            schedds=tuple(settings.pool.schedds),
            domain=settings.pool.domain,
            token_directory=settings.pool.token_directory,
        )
    )
    ad_matcher = SubprocessMatcher()
    try:
        await database.migrate(PACKAGE)
        registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        engine = Engine(
            database,
            box,
            pool,
            MinterSocket(settings.minter_socket),
            make_driver,
            worker=WorkerContext(settings.pool.domain, settings.condor_host, settings.central_address),
            policy=settings.policy,
            pace=Pace(cycle=settings.cycle_seconds, listing=settings.cycle_seconds),
            meters=Meters(registry),
            ad_matcher=ad_matcher,
        )
        app = create_app(settings, engine, Catalogue(database, box, on_change=engine.wake), registry=registry, ad_matcher=ad_matcher)
        # A loop that is stuck cannot mend itself: the watchdog then hears nothing more, and systemd starts the service anew.
        watching = asyncio.create_task(watchdog(lambda: engine.status().stuck, stop))
        await _side_by_side(serve(app, settings.listen, stop), engine.run(stop), stop)
        await watching
    finally:
        await asyncio.to_thread(ad_matcher.close)
        await pool.close()
        await database.close()


async def _side_by_side(serving: Coroutine[None, None, None], turning: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Both until `stop`; when one of them ends by itself the other is told to stop as well, and its error is raised."""
    tasks = [asyncio.create_task(serving, name="api"), asyncio.create_task(turning, name="engine")]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()
