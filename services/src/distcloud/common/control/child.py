"""The side of a child process that answers requests of a `supervise.JsonChild`: one line of JSON each, within limits."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .rlimits import cpu_timeout, limit_memory


def serve(answer: Callable[[Mapping[str, Any]], Any], *, cpu_seconds: float | None = None, memory: int | None = None) -> None:
    """Answer requests until standard input ends; whatever `answer` raises is sent back as an error.

    With `cpu_seconds` the kernel kills the process (SIGPROF) when one request uses more CPU time; `memory` is in bytes, beyond what the
    process has now. Use both for untrusted input.
    """
    if memory is not None:
        limit_memory(memory)
    for line in sys.stdin:
        response: dict[str, Any]
        try:
            with cpu_timeout(cpu_seconds) if cpu_seconds is not None else contextlib.nullcontext():
                response = {"result": answer(json.loads(line))}
        except Exception as error:
            response = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(response), flush=True)  # noqa: T201 - standard output is the protocol
