"""One contender in a process of its own: prepare it, then run it once for every line that arrives.

`python -m benchmarks.worker MODULE:FUNCTION ARGUMENTS` calls the function with keyword arguments (a JSON object); it returns what a
round runs.  Every answer is one JSON object a line on standard output: what is known once it is ready, then of each round its seconds
by the clock and by its processors, and what it returned.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.contest import Prepared


def prepare(function: str, arguments: Mapping[str, Any]) -> Prepared:
    """Call "module:function" with keyword arguments."""
    module, _, name = function.partition(":")
    prepared = getattr(importlib.import_module(module), name)(**arguments)
    return prepared if isinstance(prepared, Prepared) else Prepared(run=prepared)


def main() -> None:
    """Serve rounds until standard input ends."""
    # What libraries print must not stand among the answers.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        prepared = prepare(sys.argv[1], json.loads(sys.argv[2]))
        print(json.dumps(dict(prepared.facts)), file=answers)
        for _ in sys.stdin:
            if prepared.before is not None:
                prepared.before()
            started, cpu_started = time.perf_counter(), time.process_time()
            figures = prepared.run()
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
            figures = figures if isinstance(figures, dict) else {}
            print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds} | figures), file=answers)


if __name__ == "__main__":
    main()
