"""What OpenRLHF says of a sample, and what it wants to hear.  Pure: `judgeflow serve` speaks it over HTTP.

A sample arrives as the decoded text of its prompt and response together (`query`), special tokens included, beside the prompt's own text.
OpenRLHF before 0.7 sent the queries of a batch alone, all of one prompt in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judgeflow.adapters.rendezvous import Place
from judgeflow.errors import UsageError
from judgeflow.rendered import without_ends

TAIL = 64
"""So many characters of a prompt that was cut at its beginning tell where it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One response to a prompt."""

    prompt: str
    response: str


def samples_of(body: object) -> list[Sample]:
    """Return the samples of a request of OpenRLHF 0.7 and later.

    Raises `UsageError` naming the entry that is missing, of another length, or whose query does not have its prompt in it.
    """
    queries = _texts(body, "query")
    prompts = _texts(body, "prompts")
    if len(prompts) != len(queries):
        raise UsageError(f"prompts has {len(prompts)} entries for {len(queries)} of query; expected is one for each")
    return [
        Sample(prompt=prompt, response=_behind(query, prompt, f"query[{place}]"))
        for place, (query, prompt) in enumerate(zip(queries, prompts, strict=True))
    ]


def legacy_groups_of(body: object, size: int, marker: str | None) -> list[list[Sample]]:
    """Return the samples of a request without prompts, `size` in a row for each prompt; a prompt ends with the last `marker`.

    Raises `UsageError` where a row is not whole, or its queries do not have one prompt.
    """
    queries = _texts(body, "query")
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
    """Return what OpenRLHF is answered: rewards, scores in [0, 1] for its dynamic filtering, and figures for its log."""
    return {
        "rewards": [place.reward for place in places],
        "scores": [place.share for place in places],
        "extra_logs": {
            "judged_share": [_judged(place) for place in places],
            "group_incomplete": [float(not place.whole) for place in places],
        },
    }


def legacy_answer_of(places: Sequence[Place]) -> Mapping[str, Any]:
    """Return what OpenRLHF before 0.7 is answered; `uncertainties` tells how far each response is from a decision: 1 at a share of 0.5."""
    return {"rewards": [place.reward for place in places], "uncertainties": [1 - abs(2 * place.share - 1) for place in places]}


def _judged(place: Place) -> float:
    pairs = sum(place.sources.values())
    return (place.sources.get("judge", 0) + place.sources.get("store", 0)) / pairs if pairs else 0.0


def _texts(body: object, key: str) -> list[str]:
    if not isinstance(body, Mapping):
        raise UsageError("the body is expected to be an object with query and prompts")
    values = body.get(key)
    if not isinstance(values, list) or not values:
        raise UsageError(f"{key} is expected to be a list of texts, and not to be empty")
    for place, value in enumerate(values):
        if not isinstance(value, str):
            raise UsageError(f"{key}[{place}] is expected to be a text, not {type(value).__name__}")
    return values


def _behind(query: str, prompt: str, name: str) -> str:
    """Return what follows the prompt.  Special tokens may stand before it, and its beginning may have been cut."""
    for text in (prompt, prompt[-TAIL:]):
        start = query.find(text)
        if text and start >= 0:
            return without_ends(query[start + len(text) :])
    raise UsageError(f"{name} does not have its prompt in it, so where its response begins cannot be told")


def _split(query: str, marker: str, name: str) -> Sample:
    prompt, found, response = query.rpartition(marker)
    if not found:
        raise UsageError(f"{name} does not have the marker {marker!r} in it, which a response follows")
    return Sample(prompt=prompt + marker, response=without_ends(response))
