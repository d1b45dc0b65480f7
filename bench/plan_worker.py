"""One measurement of bench/plan.py in a process of its own: plans of the given size, with the program and the world of a checkout.

`python plan_worker.py CHECKOUT JOBS JOBS_PER_KIND CLOUDS VMS_PER_CLOUD` prints one line of JSON: CPU seconds of the first plan (`first`),
medians of further ones with busy (`warm`) and half free workers (`packed`), and the most memory of the process in MiB (`memory`). The
checkout's own bench/plan.py builds the world, so that older identifiers do not matter.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import resource
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog


def load(checkout: Path) -> ModuleType:
    """The checkout's benchmark; it puts the checkout's services before all others."""
    spec = importlib.util.spec_from_file_location("bench_plan", checkout / "bench" / "plan.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(checkout: str, *sizes: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    bench: Any = load(Path(checkout))
    jobs, bench.JOBS_PER_KIND, bench.CLOUDS, bench.VMS_PER_CLOUD = map(int, sizes)
    bench.KINDS = jobs // bench.JOBS_PER_KIND
    demand, clouds, groups, policy, matcher = bench.demand(), bench.clouds(), [bench.Group("hep")], bench.Policy(), bench.Matcher()
    vms, busy = bench.workers(busy=True)
    half = bench.workers(busy=False)[1]

    def cycle(slots: Any) -> Any:
        return bench.plan(demand, slots, vms, clouds, groups, policy, bench.NOW, matcher=matcher)

    turns = 5 if jobs <= 10_000 else 3
    result = {"first": bench.seconds(lambda: cycle(busy), 1)}
    assert cycle(busy).actions == ()
    result["warm"] = bench.seconds(lambda: cycle(busy), turns)
    cycle(half)
    result["packed"] = bench.seconds(lambda: cycle(half), turns)
    result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
