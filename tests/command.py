"""What came of a command line."""

from dataclasses import dataclass


@dataclass
class Ended:
    code: int
    out: str
    err: str
