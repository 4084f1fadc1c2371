"""The scripts in examples/ that start a service and a trainer, with a test in the trainer's place."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from held import held_port

ROOT = Path(__file__).resolve().parents[2]
CONFIG = '[judge]\nmodel = "fake-judge"\nbase_url = "{}"\n[limits]\nrequests_per_minute = 100000\n[routing]\npolicy = "always"\n'
TRAINER = """#!{python}
import json, os, sys
with open("argv.part", "w") as file:
    json.dump(sys.argv[1:], file)
os.rename("argv.part", "argv.json")
sys.stdin.read()
"""
"""Says how it was called, and trains until the test is done."""


@contextlib.contextmanager
def started(script, folder, judge, *options, **environment):
    """The command line that a script calls its trainer with, while its service runs."""
    (folder / "judgeflow.toml").write_text(CONFIG.format(judge.base_url))
    trainer = folder / "trainer"
    trainer.write_text(TRAINER.format(python=sys.executable))
    trainer.chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    known = os.environ | {"PATH": path, "PYTHON": str(trainer), "SAMPLES": "4"} | environment
    command = ["bash", ROOT / "examples" / script, *options]
    with (
        held_port() as port,
        subprocess.Popen(command, cwd=folder, env=known | {"PORT": str(port)}, stdin=subprocess.PIPE) as process,
    ):
        try:
            while not (folder / "argv.json").exists():
                assert process.poll() is None, "the script has ended"
                time.sleep(0.02)
            yield json.loads((folder / "argv.json").read_text())
        finally:
            process.stdin.close()
            ended = process.wait(300)
    assert ended in {0, 130}
