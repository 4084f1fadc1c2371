"""Published preference sets, record by record, as labelled pairs.

    rewardbench    allenai/reward-bench     prompt, chosen, rejected, chosen_model, rejected_model, subset, id
    rewardbench2   allenai/reward-bench-2   id, prompt, chosen[], rejected[], num_correct, subset
    rm-bench       THU-KEG/RM-Bench         id, prompt, chosen[3], rejected[3], domain (or subset)
    judgebench     ScalerLab/JudgeBench     pair_id, original_id, source, question, response_A, response_B, label
    preference     most others              prompt, chosen, rejected: texts, or lists of messages that end with the response
    pairs          judgeflow's own          prompt, response_a, response_b, ...

Where a benchmark says chosen and rejected, a bit of a hash of the pair's id says which of them is response_a, so nothing about the better
one follows from its place; of other sets `judgeflow.records` decides by their texts.
`metadata` names the benchmark, the category and the subset of a pair, and what its score needs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from judgeflow.records import pair_from_record
from judgeflow.types import Pair

Format = Literal["pairs", "preference", "rewardbench", "rewardbench2", "rm-bench", "judgebench"]
FORMATS: tuple[Format, ...] = get_args(Format)
Record = Mapping[str, Any]

STYLES = ("concise", "detailed plain", "detailed markdown")
"""How the three chosen and the three rejected responses of RM-Bench are written, in their order."""

REWARDBENCH_WEIGHTS: Mapping[str, Mapping[str, int]] = {
    "Chat": {"alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40},
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 250,
        "xstest-should-respond": 154,
        "donotanswer": 136,
    },
    "Reasoning": {"math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164, "hep-rust": 164},
}
"""What each subset of RewardBench counts in its category, as published: SUBSET_MAPPING and EXAMPLE_COUNTS of
allenai/reward-bench@a32e272, rewardbench/constants.py.  They are numbers of prompts, but for math-prm, which counts as much as code.
"""

_CATEGORY_OF = {subset: category for category, subsets in REWARDBENCH_WEIGHTS.items() for subset in subsets}
_JUDGEBENCH_CATEGORIES = {
    "mmlu-pro": "Knowledge",
    "livebench-reasoning": "Reasoning",
    "livebench-math": "Math",
    "livecodebench": "Coding",
}


def recognise(record: Record) -> Format | None:
    """Return the format that a record is in, by its keys; None if it is in none."""
    keys = record.keys()
    if {"response_a", "response_b"} <= keys:
        return "pairs"
    if {"question", "response_A", "response_B"} <= keys:
        return "judgebench"
    if not {"chosen", "rejected"} <= keys:
        return None
    if "num_correct" in keys:
        return "rewardbench2"
    if _is_texts(record["chosen"]):
        return "rm-bench"
    return "rewardbench" if {"subset", "chosen_model", "rejected_model"} <= keys else "preference"


def pairs_of(record: Record, kind: Format) -> list[Pair]:
    """Return the pairs of one record.  Raises `ValueError` that names the key which is missing or wrong."""
    return _READERS[kind](record)


def _pairs(record: Record) -> list[Pair]:
    return [pair_from_record(dict(record))]


def _rewardbench(record: Record) -> list[Pair]:
    """One pair.  A prompt may stand in several subsets, and is told by its text alone."""
    _require(record, "prompt", "chosen", "rejected", "subset", "id")
    subset = record["subset"]
    if subset not in _CATEGORY_OF:
        raise ValueError(f"subset is {subset!r}, which RewardBench does not have; --format preference reads any chosen and rejected")
    about = {"benchmark": "rewardbench", "category": _CATEGORY_OF[subset], "subset": subset}
    return [_labelled(record, _text(record, "chosen"), _text(record, "rejected"), _id(record, "id"), about)]


def _rewardbench2(record: Record) -> list[Pair]:
    """One pair of every correct with every incorrect response, grouped by the record."""
    _require(record, "prompt", "chosen", "rejected", "subset", "id", "num_correct")
    chosen, rejected = _texts(record, "chosen"), _texts(record, "rejected")
    if record["num_correct"] != len(chosen):
        raise ValueError(f"num_correct is {record['num_correct']!r}, but chosen has {len(chosen)} responses")
    name, about = _id(record, "id"), {"benchmark": "rewardbench2", "category": record["subset"], "subset": record["subset"]}
    return [
        _labelled(record, chosen[i], rejected[j], f"{name}/{i}-{j}", about, group=name)
        for i, j in itertools.product(range(len(chosen)), range(len(rejected)))
    ]


def _rm_bench(record: Record) -> list[Pair]:
    """Nine pairs, grouped by the record: every chosen with every rejected response.  `cell` is the (row, column) of the 3 x 3 matrix."""
    key = "domain" if "domain" in record else "subset"
    _require(record, "prompt", "chosen", "rejected", "id", key)
    chosen, rejected = (_texts(record, side, count=len(STYLES)) for side in ("chosen", "rejected"))
    name, domain = _id(record, "id"), _text(record, key)
    about = {"benchmark": "rm-bench", "category": domain.partition("-")[0] if domain.startswith("safety-") else domain, "subset": domain}
    return [
        _labelled(record, chosen[i], rejected[j], f"{name}/{i}-{j}", about | {"difficulty": difficulty(i, j), "cell": (i, j)}, group=name)
        for i, j in itertools.product(range(len(STYLES)), repeat=2)
    ]


def difficulty(chosen: int, rejected: int) -> str:
    """Return what a cell of the 3 x 3 matrix is called: hard where the rejected response is the better dressed one.

    Upper right hard, diagonal normal, lower left easy: compute_accuracy in the README of THU-KEG/RM-Bench@2119ec5.
    """
    return "normal" if chosen == rejected else "easy" if chosen > rejected else "hard"


def _judgebench(record: Record) -> list[Pair]:
    """One pair, whose responses stay where they are: the set itself has both labels."""
    _require(record, "pair_id", "original_id", "source", "question", "response_A", "response_B", "label")
    label = {"A>B": "a", "B>A": "b"}.get(record["label"])
    if label is None:
        raise ValueError(f'label is {record["label"]!r}; accepted are "A>B" and "B>A"')
    source = _text(record, "source")
    category = next((name for prefix, name in _JUDGEBENCH_CATEGORIES.items() if source.startswith(prefix)), source)
    return [
        Pair(
            prompt=_text(record, "question"),
            response_a=_text(record, "response_A"),
            response_b=_text(record, "response_B"),
            id=_id(record, "pair_id"),
            group=_id(record, "original_id"),
            label="a" if label == "a" else "b",
            metadata={"benchmark": "judgebench", "category": category, "subset": source},
        )
    ]


_READERS: Mapping[Format, Callable[[Record], list[Pair]]] = {
    "pairs": _pairs,
    "preference": _pairs,
    "rewardbench": _rewardbench,
    "rewardbench2": _rewardbench2,
    "rm-bench": _rm_bench,
    "judgebench": _judgebench,
}


def _labelled(record: Record, chosen: str, rejected: str, name: str, about: Record, *, group: str | None = None) -> Pair:
    """The pair of a better and a worse response, in the order that the hash of its id says."""
    first = _bit(name)
    try:
        return Pair(
            prompt=record["prompt"],
            response_a=chosen if first else rejected,
            response_b=rejected if first else chosen,
            id=name,
            group=group,
            label="a" if first else "b",
            metadata=about,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"prompt: {error}") from None


def _bit(text: str) -> bool:
    return bool(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] & 1)


def _require(record: Record, *keys: str) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; a record needs {', '.join(keys)}")


def _id(record: Record, key: str) -> str:
    value = record[key]
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError(f"{key} is {value!r}; a string or a whole number is expected")
    return str(value)


def _text(record: Record, key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {type(value).__name__}; it should be a string")
    if not value.strip():
        raise ValueError(f"{key} is empty")
    return value


def _texts(record: Record, key: str, *, count: int | None = None) -> Sequence[str]:
    """A list of texts, of a certain length where `count` says so."""
    value = record[key]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{key} should be a list of responses")
    if count is not None and len(value) != count:
        raise ValueError(f"{key} has {len(value)} responses; {count} are expected: {', '.join(STYLES)}")
    return [_text({f"{key}[{place}]": each}, f"{key}[{place}]") for place, each in enumerate(value)]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
