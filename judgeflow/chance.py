"""Chances that depend on what they are about and on nothing else: neither on the order of arrival nor on the process."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist

from judgeflow.errors import ConfigurationError


def chance(seed: int, *about: object) -> float:
    """Return a number in [0, 1), uniform over what it is about and always the same for the same arguments."""
    text = "\x1f".join(str(part) for part in (seed, *about))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long a judge takes, in seconds: fixed (`low`), uniform (`low` to `high`) or lognormal (`median`, `sigma`)."""

    low: float = 0.0
    high: float = 0.0
    median: float = 0.0
    sigma: float = 0.0

    def seconds(self, luck: float) -> float:
        """Return the latency at this quantile, 0 <= luck < 1."""
        if self.median:
            return self.median * math.exp(self.sigma * NormalDist().inv_cdf(min(max(luck, 1e-12), 1 - 1e-12)))
        return self.low + luck * (self.high - self.low)


def parse_latency(spec: str | float) -> Latency:
    """Return the latency of "0.05", "uniform:0.1:0.3" or "lognormal:20:0.4" (median and sigma); all in seconds.

    Raises `ConfigurationError` for anything else.
    """
    kind, *rest = str(spec).split(":")
    try:
        numbers = [float(text) for text in (rest or [kind])]
    except ValueError:
        numbers = []
    usable = all(math.isfinite(number) and number >= 0 for number in numbers)
    match kind, numbers:
        case _, [fixed] if usable and not rest:
            return Latency(low=fixed, high=fixed)
        case "uniform", [low, high] if usable and low <= high:
            return Latency(low=low, high=high)
        case "lognormal", [median, sigma] if usable and median > 0:
            return Latency(median=median, sigma=sigma)
    raise ConfigurationError(
        f"latency {spec!r} is not understood; write seconds (0.05), uniform:LOW:HIGH (uniform:0.1:0.3) or "
        f"lognormal:MEDIAN:SIGMA (lognormal:20:0.4)"
    )
