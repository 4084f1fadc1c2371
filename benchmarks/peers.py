"""Libraries that judgeflow is measured against, in an environment of their own."""

from __future__ import annotations

import os
import subprocess

PEERS = "JUDGEFLOW_PEERS"


def peers() -> str:
    """Return the interpreter that JUDGEFLOW_PEERS names; empty where it names none."""
    return os.environ.get(PEERS, "")


def absence(*libraries: str) -> str | None:
    """Return why libraries cannot be measured; None if they can."""
    if not peers():
        return f"{PEERS} names no interpreter that has {' and '.join(libraries)}"
    found = subprocess.run([peers(), "-c", f"import {','.join(libraries)}"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"{peers()} cannot import {' and '.join(libraries)}"
