"""The scheduler service: runs the engine and the REST API until a signal stops them."""

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
from .catalog.catalog import Catalog
from .drivers import make_driver
from .engine.engine import Engine, EngineLockLost
from .engine.metrics import Meters
from .engine.minter_client import MinterSocket
from .engine.monitor import Timing
from .engine.operations import WorkerContext
from .matching.subprocess_matcher import SubprocessMatcher
from .pool.htcondor import HtcondorPool, PoolAddress
from .settings import SchedulerSettings

log = structlog.get_logger(__name__)

PACKAGE = "distcloud.scheduler"


class ServiceError(Exception):
    """The service cannot start or continue; the message says why and what to do."""


def migrate(settings: SchedulerSettings) -> None:
    """Migrate the database to the newest schema. Raises ServiceError."""

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
    """Run until SIGTERM or SIGINT. Raises ServiceError, and ConfigError if the listener cannot start."""
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
            timing=Timing(cycle=settings.cycle_seconds, listing=settings.cycle_seconds),
            meters=Meters(registry),
            ad_matcher=ad_matcher,
        )
        app = create_app(settings, engine, Catalog(database, box, on_change=engine.wake), registry=registry, ad_matcher=ad_matcher)
        # A stuck event loop cannot recover: the watchdog gets no more notifications, and systemd restarts the service.
        watchdog_task = asyncio.create_task(watchdog(lambda: engine.status().stuck, stop))
        await _run_together(serve(app, settings.listen, stop), engine.run(stop), stop)
        await watchdog_task
    finally:
        await asyncio.to_thread(ad_matcher.close)
        await pool.close()
        await database.close()


async def _run_together(api_server: Coroutine[None, None, None], engine_loop: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Run both until `stop`. If one ends early, stop the other and raise the error of the first."""
    tasks = [asyncio.create_task(api_server, name="api"), asyncio.create_task(engine_loop, name="engine")]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()
