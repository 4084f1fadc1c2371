"""Published sets, record by record, as labelled pairs.

    rewardbench      allenai/reward-bench       prompt, chosen, rejected, chosen_model, rejected_model, subset, id
    rewardbench2     allenai/reward-bench-2     id, prompt, chosen[], rejected[], num_correct, subset
    rm-bench         THU-KEG/RM-Bench           id, prompt, chosen[3], rejected[3], domain (or subset)
    judgebench       ScalerLab/JudgeBench       pair_id, original_id, source, question, response_A, response_B, label
    helpsteer2       nvidia/HelpSteer2          prompt, response_1, response_2, preference_strength
    ultrafeedback    .../ultrafeedback_binarized and argilla's: chosen, rejected and the score of each
    hh-rlhf          Anthropic/hh-rlhf          chosen, rejected: dialogues of Human: and Assistant:
    implicit-prompt  texts that both begin with the prompt: chosen, rejected
    preference       most others                prompt, chosen, rejected: texts, messages, or dialogues that begin alike
    pairs            judgeflow's own            prompt, response_a, response_b, ...

Where a benchmark says chosen and rejected, a bit of a hash of the pair's id says which of them is response_a, so nothing about the better
one follows from its place; of other sets `judgeflow.records` decides by their texts.
`metadata` names the benchmark, the category and the subset of a pair, and what its score needs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from judgeflow.adapters.fields import Record, is_texts, name_of, require, text, texts
from judgeflow.adapters.preference_sets import HH_MARK, helpsteer2, hh_rlhf, implicit_prompt, own, ultrafeedback
from judgeflow.dialogue import prompt_of
from judgeflow.types import Pair

Format = Literal[
    "pairs",
    "preference",
    "implicit-prompt",
    "hh-rlhf",
    "helpsteer2",
    "ultrafeedback",
    "rewardbench",
    "rewardbench2",
    "rm-bench",
    "judgebench",
]
FORMATS: tuple[Format, ...] = get_args(Format)
OWN: frozenset[Format] = frozenset({"pairs", "preference"})
"""Formats whose records `judgeflow.records` reads as they are."""

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
    if {"response_1", "response_2", "preference_strength"} <= keys:
        return "helpsteer2"
    if {"instruction", "chosen_response", "rejected_response"} <= keys:
        return "ultrafeedback"
    return _of_preferences(record) if {"chosen", "rejected"} <= keys else None


def _of_preferences(record: Record) -> Format:
    keys, sides = record.keys(), (record["chosen"], record["rejected"])
    if "num_correct" in keys:
        return "rewardbench2"
    if is_texts(record["chosen"]):
        return "rm-bench"
    if {"subset", "chosen_model", "rejected_model"} <= keys:
        return "rewardbench"
    if {"score_chosen", "score_rejected"} <= keys or {"chosen-rating", "rejected-rating"} <= keys:
        return "ultrafeedback"
    return "hh-rlhf" if all(isinstance(side, str) and side.startswith(HH_MARK) for side in sides) else "preference"


def unrecognised(record: Record) -> str:
    """Return why a record is in no format that holds pairs, and what can be done."""
    keys = record.keys()
    remedy = "say which column is which, for instance --columns prompt=NAME,chosen=NAME,rejected=NAME (docs/datasets.md)"
    for ours in (("prompt", "response_a", "response_b"), ("prompt", "chosen", "rejected")):
        if keys & set(ours[1:]):
            return f"{', '.join(key for key in ours if key not in keys)} is missing; a record needs {', '.join(ours)}, or {remedy}"
    known = f"the keys are {', '.join(map(str, record)) or 'none'}"
    if {"helpfulness", "correctness", "response"} <= keys:
        return f"holds a single response with ratings, and no pair; of nvidia/HelpSteer2 the pairs are in --subset preference ({known})"
    if keys & {"completion", "response"}:
        return f"holds a single response, and no pair: put two responses to a prompt into one record, response_a and response_b ({known})"
    if keys & {"prompt", "messages", "text", "conversations"}:
        return f"holds no two responses to compare: prompts and single dialogues are for trainers; or {remedy} ({known})"
    return f"{known}, of no format known; known are {', '.join(FORMATS)}; {remedy}"


def pairs_of(record: Record, kind: Format) -> list[Pair]:
    """Return the pairs of one record.  Raises `ValueError` that names the key which is missing or wrong."""
    return _READERS[kind](record)


def _rewardbench(record: Record) -> list[Pair]:
    """One pair.  A prompt may stand in several subsets, and is told by its text alone."""
    require(record, "prompt", "chosen", "rejected", "subset", "id")
    subset = record["subset"]
    if subset not in _CATEGORY_OF:
        raise ValueError(f"subset is {subset!r}, which RewardBench does not have; --format preference reads any chosen and rejected")
    about = {"benchmark": "rewardbench", "category": _CATEGORY_OF[subset], "subset": subset}
    return [_labelled(record, text(record, "chosen"), text(record, "rejected"), name_of(record, "id"), about)]


def _rewardbench2(record: Record) -> list[Pair]:
    """One pair of every correct with every incorrect response, grouped by the record."""
    require(record, "prompt", "chosen", "rejected", "subset", "id", "num_correct")
    chosen, rejected = texts(record, "chosen"), texts(record, "rejected")
    if record["num_correct"] != len(chosen):
        raise ValueError(f"num_correct is {record['num_correct']!r}, but chosen has {len(chosen)} responses")
    name, about = name_of(record, "id"), {"benchmark": "rewardbench2", "category": record["subset"], "subset": record["subset"]}
    return [
        _labelled(record, chosen[i], rejected[j], f"{name}/{i}-{j}", about, group=name)
        for i, j in itertools.product(range(len(chosen)), range(len(rejected)))
    ]


def _rm_bench(record: Record) -> list[Pair]:
    """Nine pairs, grouped by the record: every chosen with every rejected response.  `cell` is the (row, column) of the 3 x 3 matrix."""
    key = "domain" if "domain" in record else "subset"
    require(record, "prompt", "chosen", "rejected", "id", key)
    chosen, rejected = (texts(record, side, names=STYLES) for side in ("chosen", "rejected"))
    name, domain = name_of(record, "id"), text(record, key)
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
    require(record, "pair_id", "original_id", "source", "question", "response_A", "response_B", "label")
    label = {"A>B": "a", "B>A": "b"}.get(record["label"])
    if label is None:
        raise ValueError(f'label is {record["label"]!r}; accepted are "A>B" and "B>A"')
    source = text(record, "source")
    category = next((name for prefix, name in _JUDGEBENCH_CATEGORIES.items() if source.startswith(prefix)), source)
    return [
        Pair(
            prompt=text(record, "question"),
            response_a=text(record, "response_A"),
            response_b=text(record, "response_B"),
            id=name_of(record, "pair_id"),
            group=name_of(record, "original_id"),
            label="a" if label == "a" else "b",
            metadata={"benchmark": "judgebench", "category": category, "subset": source},
        )
    ]


_READERS: Mapping[Format, Callable[[Record], list[Pair]]] = {
    "pairs": own,
    "preference": own,
    "implicit-prompt": implicit_prompt,
    "hh-rlhf": hh_rlhf,
    "helpsteer2": helpsteer2,
    "ultrafeedback": ultrafeedback,
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
            prompt=prompt_of(record["prompt"]),
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
