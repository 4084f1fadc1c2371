"""A file of records, looked at as a whole before anything of it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judgeflow.errors import RecordError, UsageError
from judgeflow.exchange.evidence import Finding, find, find_label
from judgeflow.exchange.replies import BY_WINNER, UNREADABLE, Rules
from judgeflow.records import RawRecord, Unusable, after, decode, place, raw_records
from judgeflow.types import Pair, ReadingStatus, Reply
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import Template, load_template, packaged_templates

_TEXTS = ("prompt", "response_a", "response_b", "conversational")

MOST_BAD = 1000
"""Bad records that are kept to be told; the others are counted."""


@dataclass(slots=True)
class Survey:
    """What a file holds: records, replies by judge and by how they came to their verdict, scores by scorer, labels.

    `opinions` counts labels that were left out, since a judge or a scorer said so. `raw` counts replies with a text, `read_by` how many
    of those that the template cannot read the other packaged ones can.
    """

    records: int = 0
    identical: int = 0
    bad: list[Unusable] = field(default_factory=list)
    bad_count: int = 0
    judges: dict[str, Counter[str]] = field(default_factory=dict)
    scores: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    opinions: int = 0
    raw: int = 0
    unread: int = 0
    read_by: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding, others: dict[str, Template]) -> None:
        """Count one record."""
        evidence = finding.evidence
        self.records += 1
        self.identical += evidence.keys.identical
        self.scores.update(list(evidence.scores))
        self.labels += evidence.label is not None
        self.opinions += finding.is_opinion
        for reply in finding.replies:
            self.judges.setdefault(reply.name, Counter())[reply.how] += 1
            if reply.directed is not None and reply.directed.raw is not None:
                self._add_raw(reply.directed.raw, others, unread=reply.how in {UNREADABLE, BY_WINNER})

    def _add_raw(self, raw: str, others: dict[str, Template], *, unread: bool) -> None:
        self.raw += 1
        self.unread += unread
        if unread:
            self.read_by.update(
                name for name, template in others.items() if read_reply(Reply(text=raw), template.verdicts).status is ReadingStatus.OK
            )


Records = Iterable[tuple[str, Mapping[str, Any] | Sequence[Pair] | Unusable]]
"""Places with a record of judgeflow's own, the labelled pairs of somebody else's, or why there are none."""


def records_of(source: Path) -> Iterator[tuple[str, dict[str, Any] | Unusable]]:
    """Yield the records of a file of judgeflow's own.  Raises `RecordError` as `raw_records`."""
    for number, raw in raw_records(source):
        where = place(source, number)
        try:
            yield where, decode(raw)
        except ValueError as error:
            yield where, Unusable(place=where, reason=str(error))


def findings(records: Records, rules: Rules, now: float) -> Iterator[Finding | Unusable]:
    """Yield what every record says, or why it says nothing.  Raises `RecordError` where `rules.pairs` does not belong to the records."""
    texts = None if rules.pairs is None else raw_records(rules.pairs)
    for where, record in records:
        beside = None if texts is None else next(texts, None)  # also where this record cannot be read
        try:
            if isinstance(record, Unusable):
                yield record
            elif isinstance(record, Mapping):
                yield find(record if texts is None else _completed(record, beside, where, rules.pairs), rules, now)
            else:
                yield from (find_label(pair, rules) for pair in record)
        except ValueError as error:
            yield Unusable(place=where, reason=str(error))
    if texts is not None and next(texts, None) is not None:
        raise RecordError(f"{rules.pairs} has more records than {rules.source}: these are not the pairs that it was made from")


def _completed(record: Mapping[str, Any], raw: tuple[int, RawRecord] | None, where: str, pairs: Path | None) -> dict[str, Any]:
    """A record with the texts of the pair that stands in the same place.  Raises `RecordError` if that is not its pair."""
    if raw is None:
        raise RecordError(f"{where}: {pairs} has fewer records: these are not the pairs that this file was made from")
    pair = decode(raw[1])
    if "id" in record and str(record["id"]) != str(pair.get("id")):
        raise RecordError(f"{where}: id is {record['id']!r}, and the record in the same place of {pairs} has {pair.get('id')!r}")
    return dict(record) | {key: pair[key] for key in _TEXTS if key in pair}


def survey(records: Records, rules: Rules) -> Survey:
    """Look at all records.  Raises `RecordError` as `findings`, with the bad records that were found before."""
    found = Survey()
    others = {name: load_template(name) for name in packaged_templates()}
    try:
        for finding in findings(records, rules, 0.0):
            if isinstance(finding, Finding):
                found.add(finding, others)
            else:
                found.bad_count += 1
                found.bad += [finding][: MOST_BAD - len(found.bad)]
    except RecordError as error:
        raise after(found.bad, error, count=found.bad_count) from None
    return found


def require_template(source: Path, found: Survey, rules: Rules) -> None:
    """Raise `UsageError` where another packaged template reads most replies and the given one does not."""
    best, count = max(found.read_by.items(), key=lambda item: item[1], default=("", 0))
    if 2 * found.unread <= found.raw or 2 * count <= found.raw:
        return
    remedy = f"give --template {best}" if rules.counts_as is None else f'set [judge] template = "{best}" in the configuration of --as'
    raise UsageError(
        f"{source}: template {rules.template.name} cannot read {found.unread:,} of {found.raw:,} replies, and {best} reads {count:,} of "
        f"these: {remedy}; nothing was stored"
    )


def require_one_judge(found: dict[Path, Survey], rules: Rules) -> None:
    """Raise `UsageError` where replies of several judges would count as those of one, or the one that is wanted said nothing."""
    names = sorted({name for each in found.values() for name in each.judges})
    if rules.counts_as is not None and len(names) != 1:
        there = f"there are {', '.join(names)}: name one with --judge" if names else "there are no replies"
        raise UsageError(f"--as makes the replies of one judge those of {rules.counts_as.id}; {there}")
    if rules.judge is not None and not names:
        raise UsageError(f"--judge {rules.judge}: no reply of that judge is recorded in {', '.join(map(str, found))}")
