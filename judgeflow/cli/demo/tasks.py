"""Preference pairs with objective truth: small writing tasks, one response that does what is asked and one that does not quite.

Some families of tasks are familiar, the scorer is trained on them; others are unfamiliar, it never sees one.  To the judge they are
all the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from string import ascii_lowercase, ascii_uppercase, digits

from judgeflow.types import Pair

VOWELS = "aeiou"
CONSONANTS = "".join(letter for letter in ascii_lowercase if letter not in VOWELS)
FAMILIAR, UNFAMILIAR = "familiar", "unfamiliar"
UNFAMILIAR_SHARE = 0.3

Task = tuple[str, str, str]
"""Prompt, good response, bad response."""


def _word(dice: random.Random, letters: str = ascii_lowercase, low: int = 5, high: int = 8) -> str:
    return "".join(dice.choice(letters) for _ in range(dice.randint(low, high)))


def _spoiled(dice: random.Random, text: str, letters: str) -> str:
    """The text with one character replaced by one of `letters`."""
    at = dice.randrange(len(text))
    return text[:at] + dice.choice(letters) + text[at + 1 :]


def _capitals(dice: random.Random) -> Task:
    word = _word(dice)
    return f"{word} in capitals", word.upper(), _spoiled(dice, word.upper(), ascii_lowercase)


def _digits(dice: random.Random) -> Task:
    number = _word(dice, digits)
    return f"digits for {_word(dice)}", number, _spoiled(dice, number, ascii_lowercase)


def _no_vowels(dice: random.Random) -> Task:
    word = _word(dice, CONSONANTS)
    return f"no vowels: {_word(dice)}", word, _spoiled(dice, word, VOWELS)


def _above(dice: random.Random) -> Task:
    limit = dice.randint(20, 80)
    return f"{_word(dice)} above {limit}", str(dice.randint(limit + 1, 99)), str(dice.randint(1, limit))


def _below(dice: random.Random) -> Task:
    limit = dice.randint(20, 80)
    return f"{_word(dice)} below {limit}", str(dice.randint(1, limit - 1)), str(dice.randint(limit, 99))


def _longest(dice: random.Random) -> Task:
    short, long = sorted(dice.sample(range(3, 13), 2))
    return f"long name, {_word(dice)}", _word(dice, low=long, high=long), _word(dice, low=short, high=short)


def _ordered(dice: random.Random) -> Task:
    letters = sorted(dice.sample(ascii_lowercase, 6))
    one, other = sorted(dice.sample(range(6), 2))
    mixed = list(letters)
    mixed[one], mixed[other] = mixed[other], mixed[one]
    return f"a to z, {_word(dice)}", "".join(letters), "".join(mixed)


def _sum(dice: random.Random) -> Task:
    a, b = dice.randint(11, 80), dice.randint(11, 80)
    return f"{a}+{b}=?", f"={a + b}", f"={a + b + dice.choice((-10, -2, -1, 1, 2, 10))}"


def _backwards(dice: random.Random) -> Task:
    word = "".join(dice.sample(ascii_lowercase, 6))
    at = dice.randrange(5)
    mixed = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return f"<{word}> backwards", word[::-1], mixed[::-1]


def _next_letter(dice: random.Random) -> Task:
    at = dice.randrange(2, 23)
    return (
        f"{_word(dice)}: {ascii_uppercase[at - 1 : at + 1]}?",
        f"[{ascii_uppercase[at + 1]}]",
        f"[{ascii_uppercase[at + dice.choice((-2, 2, 3))]}]",
    )


def _brackets(dice: random.Random) -> Task:
    depth = dice.randint(3, 6)
    start = "".join(dice.choice("([{") for _ in range(depth))
    end = "".join({"(": ")", "[": "]", "{": "}"}[bracket] for bracket in reversed(start))
    at = dice.randrange(depth)
    wrong = dice.choice([bracket for bracket in ")]}" if bracket != end[at]])
    return f"close {start}", end, end[:at] + wrong + end[at + 1 :]


FAMILIES: Mapping[str, Mapping[str, Callable[[random.Random], Task]]] = {
    FAMILIAR: {
        "capitals": _capitals,
        "digits": _digits,
        "no vowels": _no_vowels,
        "above": _above,
        "below": _below,
        "longest": _longest,
        "ordered": _ordered,
    },
    UNFAMILIAR: {"sum": _sum, "backwards": _backwards, "next letter": _next_letter, "brackets": _brackets},
}


def task_pairs(kinds: Sequence[str], count: int, seed: int, *, without: AbstractSet[object] = frozenset()) -> list[Pair]:
    """Return `count` labelled pairs; the i-th is of kind `kinds[i % len(kinds)]`, and no prompt is in `without`.

    Metadata names the kind ("familiar", "unfamiliar") and the category, which is the family.
    """
    dice = random.Random(seed)  # noqa: S311  # tasks, not secrets
    found = _tasks(kinds, dice, without)
    return [_pair(kind, family, task, dice) for (kind, family, task), _ in zip(found, range(count), strict=False)]


def _tasks(kinds: Sequence[str], dice: random.Random, without: AbstractSet[object]) -> Iterator[tuple[str, str, Task]]:
    asked: set[tuple[str, str, str]] = set()
    while True:
        for kind in kinds:
            family, task = _task(kind, dice)
            while task in asked or task[0] in without:
                family, task = _task(kind, dice)
            asked.add(task)
            yield kind, family, task


def _task(kind: str, dice: random.Random) -> tuple[str, Task]:
    family = dice.choice(list(FAMILIES[kind]))
    return family, FAMILIES[kind][family](dice)


def _pair(kind: str, family: str, task: Task, dice: random.Random) -> Pair:
    prompt, good, bad = task
    good_first = dice.random() < 0.5
    return Pair(
        prompt=prompt,
        response_a=good if good_first else bad,
        response_b=bad if good_first else good,
        label="a" if good_first else "b",
        metadata={"category": family, "kind": kind},
    )


def training_pairs(count: int, seed: int) -> list[Pair]:
    """Return pairs of the familiar families."""
    return task_pairs([FAMILIAR], count, seed)


def routed_pairs(count: int, seed: int, *, without: AbstractSet[object]) -> list[Pair]:
    """Return pairs of all families, three in ten of them unfamiliar; no prompt is in `without`."""
    return task_pairs(
        [FAMILIAR, FAMILIAR, UNFAMILIAR, FAMILIAR, FAMILIAR, UNFAMILIAR, FAMILIAR, FAMILIAR, UNFAMILIAR, FAMILIAR],
        count,
        seed,
        without=without,
    )
