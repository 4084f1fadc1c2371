"""What can go wrong with a judge, by name, and when it does: by probability or by a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from judgeflow.chance import chance
from judgeflow.errors import ConfigurationError

OK = "ok"

FAULTS: Mapping[str, str] = {
    "429": "429 with retry-after, retry-after-ms and x-ratelimit-* headers",
    "429-bare": "429 without any header",
    "quota": "429 with code insufficient_quota: no use in trying again",
    "400": "400: this question is not acceptable",
    "500": "500: the server failed",
    "503": "503: the server is overloaded",
    "504": "504: a gateway gave up waiting, and the judge may charge all the same",
    "hang": "no answer until the client gives up or the server stops",
    "reset": "the connection is reset instead of an answer",
    "cut-off": "the connection closes in the middle of the body",
    "truncated-json": "200 whose JSON ends in the middle",
    "garbage": "200 with an HTML page instead of JSON",
    "error-200": "200 with an error in its body: code 502, a provider failed",
    "null": "200 with content null",
    "no-tag": "200 with an answer that ends without a verdict",
    "length": "200 cut off by the token limit: finish_reason length",
    "refusal": "200 with message.refusal instead of an answer",
    "content-filter": "200 with finish_reason content_filter",
    "reasoning": "200 with reasoning_content and a <think> block, both of which name every verdict",
    "content-parts": "200 with the right answer as a list of parts, of which one is a thought",
    "surrogate": "200 with half an emoji in the right answer: JSON that strict parsers refuse",
    "odd-usage": "200 with the right answer and a usage of no sense: a negative and an astronomical count",
    "odd-fields": "200 with the right answer beside -Infinity, refusal false, and objects for reasoning and finish_reason",
    "slow": "the right answer, `slow_s` seconds later than usual",
}
"""Every fault a fake judge knows, and what its client sees."""


class FaultPlan:
    """Which request meets which fault.

    With probabilities, the n-th request of one question always meets the same fate, whatever arrives in between.  A script is
    used up in order of arrival, one entry a request; when it has ended, everything is "ok".
    """

    def __init__(self, rates: Mapping[str, float], script: Sequence[str], *, seed: int = 0) -> None:
        self._rates = dict(rates)
        self._script = tuple(script)
        self._position = 0
        self._seed = seed

    def next(self, question: str, attempt: int) -> str:
        """Return the fault of this request, or "ok".  Moves a script on."""
        if self._script:
            position, self._position = self._position, self._position + 1
            return self._script[position] if position < len(self._script) else OK
        luck = chance(self._seed, "fault", question, attempt) if self._rates else 1.0
        for fault, rate in self._rates.items():
            luck -= rate
            if luck < 0:
                return fault
        return OK


def parse_faults(spec: str | Sequence[str], *, seed: int = 0) -> FaultPlan:
    """Return the plan of "429:0.1,500:0.05" (probabilities), "500,429,ok" or ["500", "429", "ok"] (a script); "" means none.

    Raises `ConfigurationError` for unknown names, a mixture of both, and probabilities that are none or add up to more than 1.
    """
    entries = [entry.strip() for entry in spec.split(",") if entry.strip()] if isinstance(spec, str) else list(spec)
    named = [tuple(entry.partition(":")[::2]) for entry in entries]
    for name, _ in named:
        if name not in FAULTS and name != OK:
            raise ConfigurationError(f"no fault is called {name!r}; there are ok, {', '.join(FAULTS)}")
    with_rate = [name for name, rate in named if rate]
    if not with_rate:
        return FaultPlan({}, [name for name, _ in named], seed=seed)
    if len(with_rate) < len(named):
        raise ConfigurationError(f"faults {spec!r}: give every fault a probability (429:0.1,500:0.05), or none of them for a script")
    rates = {name: _probability(name, rate) for name, rate in named}
    if sum(rates.values()) > 1 + 1e-9:
        raise ConfigurationError(f"faults {spec!r}: the probabilities add up to more than 1")
    return FaultPlan(rates, (), seed=seed)


def _probability(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigurationError(f"fault {name}: {text!r} is no probability between 0 and 1")
    return value
