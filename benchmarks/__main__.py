"""`python -m benchmarks` lists the cases; `python -m benchmarks CASE [--size N] [--seed S] [--json] [--write]` runs one."""

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks.runner import as_json, as_text, case_names, load, report, write

RESULTS = Path(__file__).parent / "results"

parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure judgeflow side by side with what it is compared to.")
parser.add_argument("case", nargs="?", choices=case_names())
parser.add_argument("--size", type=int, help="size of the case; each says what that means")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--json", action="store_true", help="end with one line of JSON")
parser.add_argument("--write", action="store_true", help="write figures and tables to benchmarks/results, named by date and case")
options = parser.parse_args()
if options.case is None:
    for name in case_names():
        print(f"{name:24} {(load(name).__doc__ or '').strip().splitlines()[0]}")
else:
    result = report(options.case, options.size, options.seed)
    if options.write and "skipped" not in result:
        for path in write(result, RESULTS, shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])):
            print(f"wrote {path}", file=sys.stderr)
    print(as_json(result) if options.json else as_text(result))
