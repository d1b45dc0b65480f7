"""Prometheus metrics: the registry of a service, its HTTP side, the control loop, and a helper for gauges with labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def new_registry() -> CollectorRegistry:
    """A registry with the metrics of the process and the Python runtime."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


class ServiceMetrics:
    """One registry per service; `route` labels are templates (/v1/vms/{id}), so that clients cannot multiply series."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry if registry is not None else new_registry()
        labels = ("method", "route", "status")
        self._requests = Counter("distcloud_http_requests", "HTTP requests answered.", labels, registry=registry)
        self._seconds = Histogram("distcloud_http_request_seconds", "Time to answer.", ("method", "route"), registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)


class LoopMetrics:
    """Cycles of an engine's control loop."""

    def __init__(self, engine: str, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self._cycle = Histogram(f"distcloud_{engine}_cycle_seconds", "Time of one cycle.", buckets=SECONDS, registry=registry)
        self._failed = Counter(f"distcloud_{engine}_cycle_failures", "Cycles that failed.", registry=registry)

    def cycled(self, seconds: float) -> None:
        self._cycle.observe(seconds)

    def failed(self) -> None:
        self._failed.inc()


class LabeledGauge:
    """A gauge that is set as a whole: label values that have disappeared become 0."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._known: set[tuple[str, ...]] = set()

    def set(self, values: Mapping[Any, float]) -> None:
        """`values` by tuples of label values."""
        for labels in self._known - set(values):
            self._gauge.labels(*labels).set(0)
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        self._known |= set(values)
