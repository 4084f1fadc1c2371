"""Published sets to learn preferences from, record by record, as labelled pairs.

Each becomes a pair record as `judgeflow.records` reads it, so that dialogues, places and labels mean what they mean in a user's own file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from judgeflow.adapters.fields import Record, require, text
from judgeflow.plurals import plural
from judgeflow.records import pair_from_record
from judgeflow.rendered import rendered
from judgeflow.types import Pair

STRONGEST = 3
"""The greatest `preference_strength` of HelpSteer2."""

HH_MARK = "\n\nHuman:"
_HH_ANSWER = "\n\nAssistant:"
_HELPSTEER_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
_KEPT = ("preference_statement", "split", "id", "group", "category")
_SCORES = (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"), ("chosen_avg_rating", "rejected_avg_rating"))
_ABOUT_SCORES = frozenset({"chosen-model", "rejected-model", "chosen_model", "source", *(name for names in _SCORES for name in names)})


def own(record: Record) -> list[Pair]:
    """One pair: judgeflow's own records, and any other chosen and rejected."""
    return [pair_from_record(dict(record))]


def helpsteer2(record: Record) -> list[Pair]:
    """One pair, whose responses stay where they are: the set itself has both labels.

    A negative `preference_strength` says that response_1 is better, 0 is a tie.  Its size is the pair's `strength`: Scaled Bradley-Terry
    of the set's own paper (Wang et al. 2024, arXiv 2410.01257) multiplies the loss by it.
    """
    require(record, "prompt", "response_1", "response_2", "preference_strength")
    strength = _strength(record["preference_strength"])
    prompt = record["prompt"]
    pair: dict[str, Any] = {
        "prompt": _helpsteer_turns(prompt) if isinstance(prompt, str) else prompt,
        "response_a": record["response_1"],
        "response_b": record["response_2"],
        "label": "tie" if strength == 0 else "a" if strength < 0 else "b",
        "preference_strength": strength,
        **{key: record[key] for key in _KEPT if key in record},
    }
    return _named(pair | ({"strength": abs(strength)} if strength else {}), {"response_a": "response_1", "response_b": "response_2"})


def ultrafeedback(record: Record) -> list[Pair]:
    """One pair; a tie where both responses have the same score, which makes one of them `chosen` by chance."""
    if "chosen_response" in record:
        require(record, "instruction", "chosen_response", "rejected_response")
        sides = {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"}
    else:
        require(record, "chosen", "rejected")
        sides = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    pair = {name: record.get(key) for name, key in sides.items()}
    scores = _scores(record)
    equal = scores is not None and scores[0] == scores[1]
    about = {key: value for key, value in record.items() if key in _ABOUT_SCORES}
    return _named(pair | {"id": record.get("prompt_id"), "label": "tie" if equal else None} | about, sides)


@dataclass(slots=True)
class ScoreCheck:
    """Counts the pairs of UltraFeedback whose scores do not say what `chosen` says; `look` alone changes it."""

    scored: int = 0
    contradicted: int = 0
    equal: int = 0

    def look(self, pairs: Iterable[Pair]) -> None:
        """Count pairs as `ultrafeedback` makes them."""
        for chosen, rejected in filter(None, (_scores(pair.metadata) for pair in pairs)):
            self.scored += 1
            self.contradicted += chosen < rejected
            self.equal += chosen == rejected

    def told(self) -> str | None:
        """Return what is to be said about it, None if every score is as it should be."""
        found = (
            (self.contradicted, "with a higher score for the rejected response (the label stays what the set says)"),
            (self.equal, "with equal scores (a tie)"),
        )
        said = ", ".join(f"{count:,} {what}" for count, what in found if count)
        return f"{said}, of {plural(self.scored, 'scored pair')}" if said else None


def _scores(record: Record) -> tuple[float, float] | None:
    """The scores of the chosen and the rejected response; None without two numbers."""
    names = next((names for names in _SCORES if names[0] in record and names[1] in record), None)
    try:
        return (float(record[names[0]]), float(record[names[1]])) if names else None  # texts, where they come from CSV
    except (TypeError, ValueError):
        return None


def hh_rlhf(record: Record) -> list[Pair]:
    """One pair of two dialogues in Anthropic's form, which begin alike; or of two responses to a prompt in that form."""
    require(record, "chosen", "rejected")
    pair = dict(record)
    if pair.get("prompt") is not None:
        asked = text(pair, "prompt").rstrip(" ").removesuffix(_HH_ANSWER) + _HH_ANSWER
        pair |= {side: f"{asked} {text(pair, side).lstrip(' ')}" for side in ("chosen", "rejected")}
    pair |= {side: _hh_dialogue(pair, side) for side in ("chosen", "rejected")}
    return [pair_from_record({key: value for key, value in pair.items() if key != "prompt"})]


def implicit_prompt(record: Record) -> list[Pair]:
    """One pair; the prompt is what chosen and rejected begin with, up to a whole word (TRL: a preference with an implicit prompt)."""
    require(record, "chosen", "rejected")
    chosen, rejected = record["chosen"], record["rejected"]
    if not (isinstance(chosen, str) and isinstance(rejected, str)) or rendered(chosen):
        return [pair_from_record({key: value for key, value in record.items() if key != "prompt"})]
    shared = _shared_words(text(record, "chosen"), text(record, "rejected"))
    if not shared:
        raise ValueError("chosen and rejected do not begin with the same words, so there is no prompt in them")
    sides = {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}
    return [pair_from_record(dict(record) | sides)]


def _strength(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in range(-STRONGEST, STRONGEST + 1):
        raise ValueError(
            f"preference_strength is {value!r}; a whole number from -{STRONGEST} (response_1 is much better) to {STRONGEST} is expected"
        )
    return int(value)


def _helpsteer_turns(prompt: str) -> str | list[dict[str, str]]:
    """The turns of a prompt, which begins with the user's and marks every further one."""
    first, *rest = _HELPSTEER_TURN.split(prompt)
    if not rest:
        return prompt
    roles, contents = ["User", *rest[::2]], [first, *rest[1::2]]
    return [{"role": role.lower(), "content": content} for role, content in zip(roles, contents, strict=True)]


def _named(pair: dict[str, Any], names: Mapping[str, str]) -> list[Pair]:
    """The pair of a record that was put together; what is wrong with it is told by the keys of the set."""
    try:
        return [pair_from_record(pair)]
    except ValueError as error:
        key = next((key for key in names if str(error).startswith(key)), None)
        raise error if key is None else ValueError(names[key] + str(error).removeprefix(key)) from None


def _hh_dialogue(record: Record, side: str) -> list[dict[str, str]]:
    found = rendered("\n\n" + text(record, side).lstrip())
    if found is None:
        raise ValueError(f"{side} is no dialogue that begins with Human: and has an answer of Assistant: (two line breaks before each)")
    messages = [{"role": message.role, "content": message.content} for message in found.messages]
    return [*messages, {"role": "assistant", "content": ""}] if found.open and messages[-1]["role"] != "assistant" else messages


def _shared_words(one: str, other: str) -> int:
    """How many characters two texts begin with, without a word that is cut and the space before what follows."""
    most = min(len(one), len(other))
    count = next((place for place in range(most) if one[place] != other[place]), most)
    while count and not (one[count : count + 1].isspace() and other[count : count + 1].isspace()):
        count -= 1
    return count
