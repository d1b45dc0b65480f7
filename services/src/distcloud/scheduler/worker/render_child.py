"""The child process that checks and renders metadata parts, within limits on CPU time and memory; see `common.control.child`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from ...common.control import child
from .parts import MetadataPart, UserDataError, check_part, render_part

CPU_SECONDS: Final = 1.0  # per part; hundreds of times what ordinary parts take
_MEMORY: Final = 256 * 1024 * 1024


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """`ask` is "check" or "render"; an error is a property of the part."""
    if request["ask"] == "check":
        return {"error": check_part(request["content"], request["mime_type"])}
    began, rendered, error, detail = time.process_time(), None, "", ""
    try:
        rendered = asdict(render_part(MetadataPart(**request["part"]), request["values"]))
    except UserDataError as problem:
        error, detail = str(problem), problem.detail
    return {"rendered": rendered, "error": error, "detail": detail, "cpu_seconds": time.process_time() - began}


if __name__ == "__main__":
    child.serve(answer, cpu_seconds=CPU_SECONDS, memory=_MEMORY)
