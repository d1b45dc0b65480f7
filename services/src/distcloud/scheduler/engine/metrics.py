"""The engine's Prometheus metrics."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ...common.metrics import SECONDS, LabeledGauge, LoopMetrics
from ..domain.model import Demand


class Meters:
    """Labels are names from the catalog and fixed terms, so their number is bounded."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self.loop = LoopMetrics("scheduler", registry)
        self._listings = Histogram(
            "distcloud_scheduler_cloud_listing_seconds", "Duration of listing a cloud.", ("cloud",), buckets=SECONDS, registry=registry
        )
        self._listing_failures = Counter(
            "distcloud_scheduler_cloud_listing_failures", "Listings of a cloud that failed.", ("cloud",), registry=registry
        )
        self._reachable = Gauge("distcloud_scheduler_cloud_reachable", "Whether a cloud is reachable.", ("cloud",), registry=registry)
        self._vms = LabeledGauge(Gauge("distcloud_scheduler_vms", "Live VMs.", ("cloud", "state"), registry=registry))
        self._changes = Counter("distcloud_scheduler_vm_changes", "Changes of a VM's state.", ("cloud", "to_state"), registry=registry)
        self._operations = Counter(
            "distcloud_scheduler_operations", "Operations on VMs.", ("cloud", "operation", "outcome"), registry=registry
        )
        self._jobs = LabeledGauge(
            Gauge("distcloud_scheduler_jobs", "Jobs of the scheduler's groups.", ("group", "status"), registry=registry)
        )
        self._pool = Gauge("distcloud_scheduler_pool_reachable", "Whether the pool is reachable.", registry=registry)
        self._boot = Histogram(
            "distcloud_scheduler_registration_seconds",
            "From the request of a VM to its registration in the pool.",
            ("cloud",),
            buckets=(10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 3600),
            registry=registry,
        )

    def listing_completed(self, cloud: str, seconds: float, *, ok: bool) -> None:
        self._listings.labels(cloud).observe(seconds)
        if not ok:
            self._listing_failures.labels(cloud).inc()

    def update_gauges(
        self,
        vms: Mapping[tuple[str, str], Mapping[str, int]],
        demand: Iterable[Demand],
        *,
        pool_reachable: bool,
        clouds_reachable: Mapping[str, bool],
    ) -> None:
        """Set the gauges after a cycle: live VMs by (group, cloud) and state, jobs, reachability."""
        self._vms.set({(f"{group}/{cloud}", state): n for (group, cloud), of in vms.items() for state, n in of.items()})
        jobs: Tally[tuple[str, str]] = Tally()
        for kind in demand:
            jobs[kind.group, "idle"] += kind.idle
            jobs[kind.group, "running"] += kind.running
        self._jobs.set(jobs)
        self._pool.set(pool_reachable)
        for cloud, reachable in clouds_reachable.items():
            self._reachable.labels(cloud).set(reachable)

    def vm_state_changed(self, cloud: str, to_state: str) -> None:
        self._changes.labels(cloud, to_state).inc()

    def operation_completed(self, cloud: str, operation: str, outcome: str) -> None:
        self._operations.labels(cloud, operation, outcome).inc()

    def vm_registered(self, cloud: str, seconds: float) -> None:
        self._boot.labels(cloud).observe(seconds)
