"""Replies that real judges gave, read and combined as the sources of the records read them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from judgeflow.dialogue import transcript
from judgeflow.keys import digest, pair_keys, questions
from judgeflow.records import read_pairs
from judgeflow.types import Call, JudgeIdentity, ReadingStatus, Reply
from judgeflow.verdicts.combine import combine
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import find_question, load_template, render

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
JUDGEBENCH, MTBENCH = DATA / "judgebench_gpt4o.jsonl", DATA / "mtbench_position_judges.jsonl"
O1_MINI = "o1-mini-2024-09-12/arena_hard"
IDENTITY = JudgeIdentity(id=O1_MINI, model="o1-mini-2024-09-12", fingerprint=digest("judge/1", O1_MINI))

pytestmark = pytest.mark.skipif(not (JUDGEBENCH.is_file() and MTBENCH.is_file()), reason="skipped: no data")


def records(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def directed_call(reply, template, *, order):
    raw = reply["raw"] or ""  # a judge may send null
    read = read_reply(Reply(text=raw), template.verdicts)
    return Call(key=b"", pair_key=b"", judge=b"", canonical=order == "order_ab", reply=Reply(text=raw), reading=read, created_at=0.0)


def winner(call, order):
    """What a call says in terms of the pair, as the sources write it; None where it says nothing."""
    shown = {1: "first", -1: "second", 0: "tie", None: None}[call.reading.preferred]
    sides = {"first": "a", "second": "b"} if order == "order_ab" else {"first": "b", "second": "a"}
    return sides.get(shown, shown)


@pytest.fixture(scope="module")
def judgebench():
    """(record, verdict of both orders) of every pair, with o1-mini's real replies."""
    template = load_template("verdict-scale")
    both = []
    for record in records(JUDGEBENCH):
        forward, backward = (directed_call(record["judge"][O1_MINI][order], template, order=order) for order in ("order_ab", "order_ba"))
        both.append((record, combine(forward, backward, judge=IDENTITY, margin=2.0)))
    return both


def test_every_reply_of_o1_mini_is_read_as_its_source_read_it(judgebench):
    seen = Counter()
    for record, verdict in judgebench:
        for order, call in (("order_ab", verdict.forward), ("order_ba", verdict.backward)):
            assert winner(call, order) == record["judge"][O1_MINI][order]["winner"]
            seen[winner(call, order), call.reading.strong] += 1
    assert seen.total() == 700
    assert Counter({side: seen[side, True] + seen[side, False] for side in ("a", "b", "tie")}) == {"a": 332, "b": 324, "tie": 44}
    assert seen["a", False] + seen["b", False] == 243


def test_the_accuracy_and_agreement_of_o1_mini_are_the_known_ones(judgebench):
    right = Counter()
    for record, verdict in judgebench:
        right["ab"] += winner(verdict.forward, "order_ab") == record["label"]
        right["ba"] += winner(verdict.backward, "order_ba") == record["label"]
        right["agree"] += verdict.swapped_agree
        right["combined"] += verdict.choice == record["label"]
    shares = {name: f"{count / len(judgebench):.3f}" for name, count in right.items()}
    assert shares == {"ab": "0.709", "ba": "0.746", "agree": "0.686", "combined": "0.657"}


def test_the_two_orders_of_o1_mini_combine_to_these_choices(judgebench):
    assert Counter(verdict.choice for _, verdict in judgebench) == {"a": 135, "b": 134, "inconsistent": 76, "tie": 5}
    assert Counter(abs(verdict.logit) for _, verdict in judgebench) == {2.0: 235, 1.0: 34, 0.0: 81}


NULLS = {
    "claude-3-haiku-20240307": 1,
    "claude-3-opus-20240229": 0,
    "claude-3-sonnet-20240229": 1,
    "gemini-pro": 2,
    "gpt-3.5-turbo-0125": 22,
    "gpt-3.5-turbo-1106": 2,
    "gpt-4-0125-preview": 0,
    "gpt-4-0613": 0,
    "gpt-4-1106-preview": 0,
}


@pytest.fixture(scope="module")
def mtbench():
    """(judge, source's winner, our winner, our status) of every reply of nine judges, three repetitions, both orders."""
    template = load_template("verdict-abc")
    replies = []
    for record in records(MTBENCH):
        for judge, repetitions in record["judge"].items():
            for orders in repetitions.values():
                for order, reply in orders.items():
                    call = directed_call(reply, template, order=order)
                    replies.append((judge, reply["winner"], winner(call, order), call.reading.status))
    return replies


def test_every_reply_of_nine_judges_is_read_as_its_source_read_it(mtbench):
    assert [theirs for _, theirs, _, _ in mtbench] == [ours for _, _, ours, _ in mtbench]
    assert Counter(ours for _, _, ours, _ in mtbench) == {"b": 3444, "a": 1327, "tie": 385, None: 28}
    assert Counter(judge for judge, *_ in mtbench) == dict.fromkeys(NULLS, 96 * 3 * 2)


def test_what_the_source_could_not_read_is_unparseable_and_nothing_else_is(mtbench):
    unread = Counter(judge for judge, theirs, _, _ in mtbench if theirs is None)
    assert {judge: unread[judge] for judge in NULLS} == NULLS
    assert all((status is ReadingStatus.UNPARSEABLE) == (theirs is None) for _, theirs, _, status in mtbench)


@pytest.mark.parametrize(("path", "count"), [(JUDGEBENCH, 350), (MTBENCH, 96)], ids=lambda value: getattr(value, "stem", value))
def test_real_pairs_are_read_keyed_and_shown_without_loss(path, count):
    template = load_template("default")
    pairs, bad = read_pairs(path)
    assert (len(pairs), bad) == (count, [])
    assert len({pair_keys(pair).pair for pair in pairs}) == count
    for pair in pairs:
        forward, backward = questions(pair, pair_keys(pair), IDENTITY.fingerprint)
        shown = find_question([{"content": message.content} for message in render(template, backward)])
        assert (shown.prompt, shown.response_a, shown.response_b) == (transcript(pair.prompt), pair.response_b, pair.response_a)
        assert shown.nonce == backward.nonce != forward.nonce
