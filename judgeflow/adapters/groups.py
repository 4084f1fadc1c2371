"""A trainer's flat batch as groups, and a step's result as the flat list that the trainer waits for.  Pure.

A batch is three lists side by side: prompts, responses, and whether each response takes part.  Its groups are tuples of places in it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from judgeflow.errors import UsageError
from judgeflow.plurals import plural
from judgeflow.types import IDENTICAL, Group, Outcome, Prompt, StepResult, StepStatistics

Places = tuple[int, ...]
"""Where the responses of one group stand in the batch."""

MASKED = "masked"


def groups_of(prompts: Sequence[Prompt], size: int | None) -> list[Places]:
    """Return the groups of a batch in which every prompt stands once for each of its responses.

    Where each `size` prompts in a row are the same, those are the groups: so two groups of one prompt stay apart.  In any other order the
    responses of a prompt are taken `size` at a time, as they come.  Without a size all responses of a prompt are one group.  Raises
    `UsageError` where a prompt has only a part of its responses here, or only one.
    """
    if size is not None and not isinstance(size, int):
        raise UsageError(f"the number of responses to a prompt is given as {size!r}; expected is a whole number")
    if size is not None and _in_a_row(prompts, size):
        return _slices(range(len(prompts)), size)
    places = _by_prompt(prompts)
    for prompt, found in places.items():
        _check(prompt, len(found), size)
    return [members for found in places.values() for members in _slices(found, size or len(found))]


def groups_here(prompts: Sequence[Prompt | None], size: int) -> list[Places]:
    """Return the groups of a batch of which only some rows are here; None stands for a row that is not.

    As `groups_of`, but what is here of a group is a group.  Where nothing is missing, it is `groups_of`.
    """
    found = [prompt for prompt in prompts if prompt is not None]
    if len(found) == len(prompts):
        return groups_of(found, size)
    slices = [[place for place in places if prompts[place] is not None] for places in _slices(range(len(prompts)), size)]
    if len(prompts) % size == 0 and all(len({prompts[place] for place in here}) <= 1 for here in slices):
        return [tuple(here) for here in slices if here]
    return [here for places in _by_prompt(prompts).values() for here in _slices(places, size)]


def halves_of(prompts: Sequence[Prompt]) -> list[Places]:
    """Return the groups of two of a batch that holds every prompt's first response, and then every prompt's second.

    Raises `UsageError` if the second half has other prompts than the first.
    """
    middle = len(prompts) // 2
    if len(prompts) % 2 or list(prompts[:middle]) != list(prompts[middle:]):
        raise UsageError("the second half of the batch does not repeat the prompts of the first; every prompt needs two responses")
    return [(place, place + middle) for place in range(middle)]


def as_groups(
    prompts: Sequence[Prompt], responses: Sequence[str], places: Sequence[Places], *, usable: Sequence[bool], name: str
) -> tuple[Group, ...]:
    """Return the groups that stand at `places`; `name` begins their ids."""
    return tuple(
        Group(
            id=f"{name}.{number}",
            prompt=prompts[members[0]],
            responses=tuple(responses[place] for place in members),
            mask=tuple(usable[place] for place in members),
        )
        for number, members in enumerate(places)
    )


def rewards_of(result: StepResult, groups: Sequence[Group], places: Sequence[Places], scale: float) -> list[float | None]:
    """Return the advantage of each response in the order of the batch; None for one that takes no part.

    Raises `UsageError` if the result does not fit, or holds what is not a finite number: a router is foreign code.
    """
    advantages = result.advantages(scale)
    rewards: list[float | None] = [None] * _count(places)
    for group, members in zip(groups, places, strict=True):
        found = advantages.get(group.id, ())
        if len(found) != len(members) or not all(math.isfinite(value) for value in found):
            raise UsageError(f"the router gave {found} for group {group.id}; expected are {len(members)} finite numbers")
        for member in group.members:
            rewards[members[member]] = found[member]
    return rewards


def shares_of(result: StepResult, groups: Sequence[Group], places: Sequence[Places]) -> list[float]:
    """Return the mean probability that each response is preferred to a sibling, in the order of the batch; 0.5 for one without siblings."""
    won, met = [0.0] * _count(places), [0] * _count(places)
    for first, second, outcome in _met(result, groups, places):
        won[first] += outcome.probability
        won[second] += 1 - outcome.probability
        met[first] += 1
        met[second] += 1
    return [total / of if of else 0.5 for total, of in zip(won, met, strict=True)]


def counts_of(result: StepResult, groups: Sequence[Group], places: Sequence[Places]) -> list[Counter[str]]:
    """Return how many of each response's pairs were decided by whom, in the order of the batch; "identical" stands for nobody."""
    counts: list[Counter[str]] = [Counter() for _ in range(_count(places))]
    for first, second, outcome in _met(result, groups, places):
        decided = IDENTICAL if outcome.status == IDENTICAL else outcome.source
        counts[first][decided] += 1
        counts[second][decided] += 1
    return counts


def _met(result: StepResult, groups: Sequence[Group], places: Sequence[Places]) -> Iterator[tuple[int, int, Outcome]]:
    """Yield every outcome with where its two responses stand in the batch."""
    outcomes = iter(result.outcomes)
    for group, members in zip(groups, places, strict=True):
        for i, j in group.indexes():
            yield members[i], members[j], next(outcomes)


def _count(places: Sequence[Places]) -> int:
    return sum(len(members) for members in places)


def sources_of(result: StepResult, groups: Sequence[Group], places: Sequence[Places]) -> list[str]:
    """Return who decided about each response's pairs, in the order of the batch: "judge 2, scorer 1"."""
    return [told_sources(counted) for counted in counts_of(result, groups, places)]


def told_sources(counted: Mapping[str, int]) -> str:
    """Return who decided about a response's pairs: "judge 2, scorer 1", and "masked" where it has none."""
    return ", ".join(f"{source} {count}" for source, count in sorted(counted.items())) or MASKED


def silence_of(result: StepResult, refusal: Callable[[], Exception | None] = lambda: None) -> str:
    """Return how many pairs count as even because neither judge nor scorer spoke, and why: "3 of 12 pairs (unreachable 3)"; "" for none.

    `refusal` tells why the judge cannot be used, where that is known; it is asked only if there is something to tell.
    """
    reasons = Counter(outcome.status for outcome in result.outcomes if outcome.source == "fallback" and outcome.preference is None)
    told = ", ".join(f"{status} {count}" for status, count in reasons.most_common())
    if not reasons:
        return ""
    because = "" if (known := refusal()) is None else f": {known}"
    return f"{reasons.total()} of {plural(len(result.outcomes), 'pair')} ({told}), which count as even{because}"


def figures_of(statistics: StepStatistics, share: float = 1.0) -> Mapping[str, float]:
    """Return a step's figures for a trainer's log: finite numbers only, without those that the step has none for.

    Of what is counted it is the `share` that belongs to one of several ranks: theirs add up to the step's.
    """
    pairs = max(1, statistics.pairs)
    judged = sum(statistics.sources.get(source, 0) for source in ("judge", "store"))
    figures: dict[str, float | None] = {
        "pairs": statistics.pairs * share,
        "judged_share": judged / pairs,
        "agreement": statistics.agreement,
        "threshold": statistics.threshold,
        "calls": statistics.calls * share,
        "tokens": statistics.spent.tokens * share,
        "usd": statistics.spent.usd * share,
        "seconds": statistics.seconds,
        **{f"source/{source}": statistics.sources.get(source, 0) * share for source in ("scorer", "judge", "store", "fallback")},
    }
    return {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}


def _by_prompt(prompts: Sequence[Prompt | None]) -> dict[Prompt, list[int]]:
    places: dict[Prompt, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        if prompt is not None:
            places[prompt].append(place)
    return places


def _slices(places: Sequence[int], size: int) -> list[Places]:
    return [tuple(places[start : start + size]) for start in range(0, len(places), size)]


def _in_a_row(prompts: Sequence[Prompt], size: int) -> bool:
    whole = size > 1 and len(prompts) % size == 0
    return whole and all(prompts[place] == prompts[place - place % size] for place in range(len(prompts)))


def _check(prompt: Prompt, count: int, size: int | None) -> None:
    if size is not None and size < 2:
        raise UsageError("a preference is between at least two responses to a prompt, and here every prompt has one; sample two or more")
    if size is None and count < 2:
        raise UsageError(f"prompt {_shown(prompt)} has one response here; a preference is between at least two: sample two or more")
    if size is not None and count % size:
        raise UsageError(
            f"prompt {_shown(prompt)} has {count} responses here, and its groups have {size}: a part of a group is in another process or "
            "another batch, and judging a part gives wrong rewards. Let the processes ask one service, where parts meet (docs/trl.md), "
            f"or let each process hold whole groups (samples per process and generation batch a multiple of {size})"
        )


def _shown(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else prompt[-1].content
    return repr(text if len(text) <= 60 else text[:60] + "...")
