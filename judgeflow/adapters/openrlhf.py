"""What OpenRLHF says of a sample, and what it wants to hear.  Pure: `judgeflow serve` speaks it over HTTP.

A sample arrives as the decoded text of its prompt and response together (`query`), special tokens included, beside the prompt's own text.
OpenRLHF before 0.7 sent the queries of a batch alone, all of one prompt in a row.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judgeflow.adapters.gathering import Place
from judgeflow.errors import UsageError
from judgeflow.rendered import without_ends

TAIL = 64
"""So many characters of a prompt that was cut at its beginning tell where it ends."""

MOST_DECIDED = 0.999
"""A score below the 1 that dynamic filtering leaves out."""

_SPECIAL = re.compile(r"<[^<>\s]+>\s?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One response to a prompt."""

    prompt: str
    response: str


def samples_of(body: object) -> list[Sample]:
    """Return the samples of a request of OpenRLHF 0.7 and later.

    Raises `UsageError` naming the entry that is missing, of another length, or whose query does not have its prompt in it.
    """
    if not isinstance(body, Mapping):
        raise UsageError("the body is expected to be an object with query and prompts")
    return paired(body.get("query"), body.get("prompts"), "query")


def paired(queries: object, prompts: object, name: str = "queries") -> list[Sample]:
    """Return the samples that two lists side by side make; errors call the first `name`.  Raises like `samples_of`."""
    whole, alone = _texts(queries, name), _texts(prompts, "prompts")
    if len(alone) != len(whole):
        raise UsageError(f"prompts has {len(alone)} entries for {len(whole)} of {name}; expected is one for each")
    return [
        Sample(prompt=prompt, response=_behind(query, prompt, f"{name}[{place}]"))
        for place, (query, prompt) in enumerate(zip(whole, alone, strict=True))
    ]


def legacy_groups_of(body: Mapping[str, Any], size: int, marker: str | None) -> list[list[Sample]]:
    """Return the samples of a request without prompts, `size` in a row for each prompt; a prompt ends with the last `marker`.

    Raises `UsageError` where a row is not whole, or its queries do not have one prompt.
    """
    queries = _texts(body.get("query"), "query")
    if marker is None:
        raise UsageError("query has no prompts beside it; start judgeflow serve with --response-marker, the text that a response follows")
    if len(queries) % size:
        raise UsageError(f"query has {len(queries)} entries, and {size} are expected for each prompt")
    samples = [_split(query, marker, f"query[{place}]") for place, query in enumerate(queries)]
    groups = [samples[start : start + size] for start in range(0, len(samples), size)]
    for number, group in enumerate(groups):
        if len({sample.prompt for sample in group}) > 1:
            raise UsageError(
                f"query[{number * size}] to query[{(number + 1) * size - 1}] are expected to have one prompt, and have several"
            )
    return groups


def answer_of(places: Sequence[Place]) -> Mapping[str, Any]:
    """Return what OpenRLHF is answered: rewards, scores in [0, 1) for its dynamic filtering, and figures for its log.

    It filters groups by the mean of their scores, and a group's mean share is always a half.  So a score is how far a response's share is
    from that: 0 where nobody could tell it from its siblings, and a group of such is left out.
    """
    return {
        "rewards": [place.reward for place in places],
        "scores": [min(MOST_DECIDED, round(_decided(place), 6)) for place in places],
        "extra_logs": {
            "judged_share": [_judged(place) for place in places],
            "group_incomplete": [float(not place.whole) for place in places],
        },
    }


def legacy_answer_of(places: Sequence[Place]) -> Mapping[str, Any]:
    """Return what OpenRLHF before 0.7 is answered; `uncertainties` tells how far each response is from a decision: 1 at a share of 0.5."""
    return {"rewards": [place.reward for place in places], "uncertainties": [1 - _decided(place) for place in places]}


def _decided(place: Place) -> float:
    return abs(2 * place.share - 1)


def _judged(place: Place) -> float:
    pairs = sum(place.sources.values())
    return (place.sources.get("judge", 0) + place.sources.get("store", 0)) / pairs if pairs else 0.0


def _texts(values: object, name: str) -> list[str]:
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or not values:
        raise UsageError(f"{name} is expected to be a list of texts, and not to be empty")
    for place, value in enumerate(values):
        if not isinstance(value, str):
            raise UsageError(f"{name}[{place}] is expected to be a text, not {type(value).__name__}")
    return list(values)


def _behind(query: str, prompt: str, name: str) -> str:
    """Return what follows the prompt, which may have special tokens before it, or have lost its beginning."""
    if not prompt:
        raise UsageError(f"{name} has an empty prompt")
    start = _start_of(query, prompt)
    end = start + len(prompt) if start >= 0 else _end_of_cut(query, prompt)
    if end is None:
        raise UsageError(f"{name} does not have its prompt in it, so where its response begins cannot be told")
    return without_ends(query[end:])


def _start_of(query: str, prompt: str) -> int:
    """Return where a prompt begins: at once, behind special tokens, wherever it is found, or -1."""
    place = 0
    while not query.startswith(prompt, place):
        special = _SPECIAL.match(query, place)
        if special is None:
            return query.find(prompt)
        place = special.end()
    return place


def _end_of_cut(query: str, prompt: str) -> int | None:
    """Return where a prompt ends of which only the end is left: behind the longest piece of it that the query has."""
    most = bisect.bisect_left(range(len(prompt)), 1, lo=0, key=lambda length: prompt[-length - 1 :] not in query)
    return query.find(prompt[-most:]) + most if most >= TAIL else None


def _split(query: str, marker: str, name: str) -> Sample:
    prompt, found, response = query.rpartition(marker)
    if not found:
        raise UsageError(f"{name} does not have the marker {marker!r} in it, which a response follows")
    return Sample(prompt=prompt + marker, response=without_ends(response))
