"""The scheduler service: builds the engine and the REST API from the configuration."""

from __future__ import annotations

import asyncio
from functools import partial

from ..common.service import Components, Runtime, Service
from .api.app import create_app
from .catalog.catalog import Catalog
from .drivers import make_driver
from .engine.engine import Engine
from .engine.metrics import Meters
from .engine.minter_client import MinterSocket
from .engine.monitor import Timing
from .engine.operations import WorkerContext
from .matching.subprocess_matcher import SubprocessMatcher
from .pool.htcondor import HtcondorPool, PoolAddress
from .settings import SchedulerSettings
from .worker.renderer import SubprocessRenderer


def build(settings: SchedulerSettings, runtime: Runtime) -> Components:
    """The engine and its API; subprocesses are stopped when the service ends."""
    pool = HtcondorPool(
        PoolAddress(
            collector=settings.pool.collector,
            schedds=tuple(settings.pool.schedds),
            domain=settings.pool.domain,
            token_directory=settings.pool.token_directory,
        )
    )
    runtime.cleanup.push_async_callback(pool.close)
    ad_matcher = SubprocessMatcher()
    runtime.cleanup.push_async_callback(asyncio.to_thread, ad_matcher.close)
    renderer = SubprocessRenderer()
    runtime.cleanup.push_async_callback(renderer.close)
    engine = Engine(
        runtime.database,
        runtime.secrets,
        pool,
        MinterSocket(settings.minter_socket),
        partial(make_driver, endpoints=settings.openstack.endpoints),
        worker=WorkerContext(settings.pool.domain, settings.condor_host, settings.central_address),
        policy=settings.policy,
        timing=Timing(cycle=settings.cycle_seconds, listing=settings.cycle_seconds),
        meters=Meters(runtime.registry),
        ad_matcher=ad_matcher,
        renderer=renderer,
    )
    catalog = Catalog(runtime.database, runtime.secrets, on_change=engine.wake, renderer=renderer)
    app = create_app(settings, engine, catalog, registry=runtime.registry, ad_matcher=ad_matcher)
    return Components(app, engine.run, lambda: engine.status().stuck)


service = Service("distcloud.scheduler", build)
