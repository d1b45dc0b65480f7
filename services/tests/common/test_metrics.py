"""Metrics helpers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from distcloud.common.metrics import LabeledGauge, LoopMetrics, ServiceMetrics, new_registry


def test_disappeared_labels_become_zero() -> None:
    registry = CollectorRegistry()
    gauge = LabeledGauge(Gauge("vms", "VMs.", ("cloud", "state"), registry=registry))
    gauge.set({("a", "ready"): 2, ("b", "ready"): 1})
    gauge.set({("a", "ready"): 3})
    assert registry.get_sample_value("vms", {"cloud": "a", "state": "ready"}) == 3
    assert registry.get_sample_value("vms", {"cloud": "b", "state": "ready"}) == 0


def test_loop_metrics_are_named_after_the_engine() -> None:
    registry = new_registry()
    loop = LoopMetrics("demo", registry)
    loop.cycled(0.2)
    loop.failed()
    assert registry.get_sample_value("distcloud_demo_cycle_seconds_count") == 1
    assert registry.get_sample_value("distcloud_demo_cycle_failures_total") == 1
    assert b"process_cpu_seconds_total" in ServiceMetrics(registry).render()
