"""Labelled pairs without a download: worked answers to arithmetic problems, one of them wrong.

`python -m judgeflow.testing.pairs 200 > pairs.jsonl` writes them as pair records.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from judgeflow.types import Pair

_GOODS = ("apples", "notebooks", "tickets", "candles", "screws", "eggs", "books", "bricks")
_NAMES = ("Ada", "Bruno", "Chen", "Dalia", "Emeka", "Freya", "Goran", "Hana")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """A question, the steps to its answer as (what is computed, result), and the closing words around the last result."""

    category: str
    question: str
    steps: tuple[tuple[str, int], ...]
    closing: str


def arithmetic_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return `count` different pairs with objective labels: both responses work an arithmetic problem out, one makes a slip.

    Ids are "arithmetic-00001" and so on; metadata names the category.  Lengths vary, and do not tell which response is right.
    The first n pairs of a seed are the same for every count.
    """
    dice = random.Random(seed)
    pairs: list[Pair] = []
    asked: set[str] = set()
    while len(pairs) < count:
        problem = _KINDS[dice.randrange(len(_KINDS))](dice)
        pair = _pair(problem, dice, f"arithmetic-{len(pairs) + 1:05d}")
        if problem.question not in asked:
            asked.add(problem.question)
            pairs.append(pair)
    return pairs


def _pair(problem: _Problem, dice: random.Random, name: str) -> Pair:
    right, wrong = _answer(problem, dice, slip=False), _answer(problem, dice, slip=True)
    right_first = dice.random() < 0.5
    return Pair(
        id=name,
        prompt=problem.question,
        response_a=right if right_first else wrong,
        response_b=wrong if right_first else right,
        label="a" if right_first else "b",
        metadata={"category": problem.category},
    )


def _answer(problem: _Problem, dice: random.Random, *, slip: bool) -> str:
    """A worked answer in one of three lengths; with `slip` its last step is off by a little."""
    *before, (last, result) = problem.steps
    if slip:
        result += dice.choice((-100, -20, -10, -2, -1, 1, 2, 9, 10, 90))
    steps = [*before, (last, result)]
    closing = problem.closing.format(result)
    match dice.randrange(3):
        case 0:
            return closing
        case 1:
            return " ".join([*(f"{what} = {value}." for what, value in steps), closing])
        case _:
            lines = [f"{number}. {what} = **{value}**" for number, (what, value) in enumerate(steps, start=1)]
            return "\n".join(["Let me work through this step by step.", "", *lines, "", closing])


def _sum(dice: random.Random) -> _Problem:
    a, b, c = (dice.randrange(100, 9000) for _ in range(3))
    return _Problem(
        category="sum",
        question=f"What is {a} + {b} - {c}?",
        steps=((f"{a} + {b}", a + b), (f"{a + b} - {c}", a + b - c)),
        closing="The answer is {}.",
    )


def _product(dice: random.Random) -> _Problem:
    a, b = dice.randrange(12, 99), dice.randrange(103, 990)
    tens, ones = a // 10 * 10, a % 10
    return _Problem(
        category="product",
        question=f"Multiply {a} by {b}.",
        steps=((f"{tens} x {b}", tens * b), (f"{ones} x {b}", ones * b), (f"{tens * b} + {ones * b}", a * b)),
        closing="So the product is {}.",
    )


def _shopping(dice: random.Random) -> _Problem:
    name, goods = dice.choice(_NAMES), dice.choice(_GOODS)
    boxes, each, given = dice.randrange(3, 40), dice.randrange(6, 48), dice.randrange(2, 15)
    total = boxes * each
    return _Problem(
        category="word problem",
        question=f"{name} buys {boxes} boxes of {each} {goods} and gives {given} {goods} away. How many {goods} are left?",
        steps=((f"{boxes} x {each}", total), (f"{total} - {given}", total - given)),
        closing=f"{name} has {{}} {goods} left.",
    )


def _travel(dice: random.Random) -> _Problem:
    name, speed, hours, rest = dice.choice(_NAMES), dice.randrange(40, 130), dice.randrange(2, 12), dice.randrange(15, 300)
    first = speed * hours
    return _Problem(
        category="word problem",
        question=(
            f"{name} drives for {hours} hours at {speed} km/h, rests, and then has {rest} km to go. "
            f"How long is the whole way in kilometres? Show your reasoning."
        ),
        steps=((f"{hours} x {speed}", first), (f"{first} + {rest}", first + rest)),
        closing="The whole way is {} km long.",
    )


_KINDS: tuple[Callable[[random.Random], _Problem], ...] = (_sum, _product, _shopping, _travel)


def pair_lines(pairs: Iterable[Pair]) -> Iterator[bytes]:
    """Return pairs as JSON lines."""
    for pair in pairs:
        record: Mapping[str, object] = {
            "id": pair.id,
            "category": pair.metadata["category"],
            "prompt": pair.prompt,
            "response_a": pair.response_a,
            "response_b": pair.response_b,
            "label": pair.label,
        }
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    """Write pair records to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m judgeflow.testing.pairs", description="Write labelled arithmetic pairs as JSONL.")
    parser.add_argument("count", type=_count, help="how many pairs")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other pairs")
    arguments = parser.parse_args()
    try:
        sys.stdout.buffer.writelines(pair_lines(arithmetic_pairs(arguments.count, arguments.seed)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        raise SystemExit(1) from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pairs; give 0 or more")
    return int(text)


if __name__ == "__main__":
    main()
