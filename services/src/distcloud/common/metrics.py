"""Prometheus metrics of a service's HTTP side, and the registry that its other parts add theirs to."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


class ServiceMetrics:
    """One registry per service; `route` labels are templates (/v1/vms/{id}), so that clients cannot multiply series."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        self.registry = registry
        labels = ("method", "route", "status")
        self._requests = Counter("distcloud_http_requests", "HTTP requests answered.", labels, registry=registry)
        self._seconds = Histogram("distcloud_http_request_seconds", "Time to answer.", ("method", "route"), registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)
