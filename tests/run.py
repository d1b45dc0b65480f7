"""Runs the layers of tests, fast ones first, and closes with one line: N passed, N failed, N skipped.

`python tests/run.py all|fast|lint|docs|lab|long`. A layer is a list of steps; a step is a command. What a step
prints goes to build/tests/<step>.log; it is shown when the step fails.
"""

from __future__ import annotations

import asyncio
import sys

from runner.execute import main, rights
from runner.layers import LAYERS, ON_A_LAB

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LAYERS:
        sys.exit(f"usage: python tests/run.py {'|'.join(LAYERS)}")
    if sys.argv[1] in ON_A_LAB and (why := rights()):
        sys.exit(f"the layer {sys.argv[1]} {why}")
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(
            "interrupted: the steps that ran were stopped; a lab that is up stays up (`make lab-down`). "
            "If your own lab was stopped for it, `make lab` brings it back"
        )
