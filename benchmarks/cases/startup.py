"""Seconds that `import judgeflow` and `judgeflow --help` take above a bare Python, medians of interleaved fresh processes."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.runner import Goal, interleaved_medians

SIZE = 10
"""Rounds."""

GOALS = {"import_seconds_above_python": Goal("<=", 0.15), "help_seconds_above_python": Goal("<=", 0.25)}

_COMMANDS = {
    "python": ("-c", "pass"),
    "import": ("-c", "import judgeflow"),
    "help": ("-m", "judgeflow", "--help"),
}


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of rounds, the seed changes nothing."""
    del seed
    medians = interleaved_medians({name: lambda arguments=arguments: _start(arguments) for name, arguments in _COMMANDS.items()}, size)
    bare = medians["python"]
    return {
        "import_seconds_above_python": medians["import"] - bare,
        "help_seconds_above_python": medians["help"] - bare,
        "python_seconds": bare,
    }


def _start(arguments: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
