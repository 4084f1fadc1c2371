"""A trace out of a verdict database and out of a file is the same trace."""

import functools
import math
from pathlib import Path

import numpy as np
import orjson
import pytest

from judgeflow import Pair, Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.errors import RecordError, ReplayError
from judgeflow.keys import pair_keys
from judgeflow.records import outcome_record
from judgeflow.replay.coverage import require
from judgeflow.replay.read import read_database, read_file
from judgeflow.replay.simulate import credit, play
from judgeflow.replay.whatif import WhatIf
from judgeflow.store import SqlStore
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs

JUDGEBENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "judgebench_gpt4o.jsonl"
PAIRS = arithmetic_pairs(60)


def in_a_run(path, pairs, run, **routing):
    async def main():
        scheduler = Scheduler(
            store=functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{path}"),
            judge=ScriptedJudge(prompt_usd_per_mtok=1.0),
            scorer=FakeScorer(pairs),
            routing=RoutingConfig(**routing),
            run=run,
        )
        async with scheduler:
            return [await scheduler.route(pairs[start : start + 20], step=start // 20) for start in range(0, len(pairs), 20)]

    return main()


async def test_a_run_is_replayed_from_its_database(tmp_path):
    path = tmp_path / "verdicts.db"
    steps = await in_a_run(path, PAIRS, "routed", policy="error", max_share=0.3, audit_fraction=0.3)
    trace = await read_database(str(path), run="routed")
    outcomes = {pair_keys(outcome.pair).pair: outcome for step in steps for outcome in step.outcomes}
    assert set(trace.keys) == set(outcomes)
    assert sorted(trace.steps.tolist()) == sorted([0] * 20 + [1] * 20 + [2] * 20)
    beliefs = {key: FakeScorer(PAIRS).score([outcome.pair])[0] for key, outcome in outcomes.items()}
    for place, key in enumerate(trace.keys):
        sign = 1 if pair_keys(outcomes[key].pair).canonical else -1
        assert trace.logits[place] == pytest.approx(sign * beliefs[key].logit)
        assert trace.uncertainties[place] == pytest.approx(beliefs[key].uncertainty)
    (testimony,) = trace.testimonies.values()
    asked = [outcomes[key].verdict is not None for key in trace.keys]
    assert testimony.replied.all(axis=1).tolist() == asked
    propensities = testimony.chances.propensities
    assert ((propensities > 0) & (propensities < 1)).any()
    assert (testimony.usd[testimony.replied] > 0).all()
    again = play(trace, WhatIf(max_share=0.3, audit_fraction=0.3, run="routed"))
    assert [again.asked[trace.keys.index(key)] for key in outcomes] == [outcome.verdict is not None for outcome in outcomes.values()]
    require(trace, again)


async def test_what_another_run_has_judged_counts_as_likely_as_it_was(tmp_path):
    path = tmp_path / "verdicts.db"
    await in_a_run(path, PAIRS, "routed", policy="error", max_share=0.3)
    await in_a_run(path, PAIRS[:20], "whole", policy="always")
    trace = await read_database(str(path), run="routed")
    first = {pair_keys(pair).pair for pair in PAIRS[:20]}
    (testimony,) = trace.testimonies.values()
    propensities = testimony.chances.propensities
    assert all(propensities[place] == 1.0 for place, key in enumerate(trace.keys) if key in first)
    assert 0.0 in propensities
    with pytest.raises(ReplayError, match="choose one with --run; there are routed, whole"):
        await read_database(str(path))
    with pytest.raises(ReplayError, match="no run 'other'"):
        await read_database(str(path), run="other")


def write(path, records):
    path.write_bytes(b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))
    return path


def recorded(number, label="a", **more):
    replies = {"order_ab": {"raw": "so <verdict>A</verdict>"}, "order_ba": {"raw": "so <verdict>B</verdict>"}}
    texts = {"prompt": f"question {number // 2}", "response_a": f"yes {number}", "response_b": f"no {number}"}
    return texts | {"label": label, "category": "maths", "judge": {"strict": replies}, "rm_scores": {"small": [2.0, 1.5]}} | more


def test_a_file_is_replayed_without_a_database_whichever_way_round_its_pairs_stand(tmp_path):
    trace = read_file(write(tmp_path / "pairs.jsonl", [recorded(number) for number in range(40)]))
    signs = np.where(trace.swapped, -1, 1)
    assert (trace.scorer, set(trace.categories)) == ("small", {"maths"})
    assert 5 < trace.swapped.sum() < 35
    assert (signs * trace.logits).tolist() == [0.5] * 40
    assert trace.truth.tolist() == [(sign + 1) / 2 for sign in signs]
    assert (trace.testimonies["strict"].preferred == signs[:, None]).all()
    assert trace.prompts.tolist() == [number // 2 for number in range(40)]
    assert (trace.testimonies["strict"].chances.propensities == 1.0).all()
    played = play(trace, WhatIf(policy="always"))
    assert (credit(played.logits, trace.truth) == 1.0).all()


def test_of_several_scorers_one_is_chosen_or_their_mean(tmp_path):
    scores = [{"small": [1.0, 0.0], "large": [0.0, 10.0]}, {"small": [3.0, 0.0], "large": [0.0, 10.0]}]
    path = write(tmp_path / "pairs.jsonl", [recorded(number, rm_scores=scores[number]) for number in range(2)])
    with pytest.raises(ReplayError, match="large, small, and mean-z"):
        read_file(path)
    with pytest.raises(ReplayError, match="no scores of 'huge'"):
        read_file(path, scorer="huge")
    assert np.abs(read_file(path, scorer="large").logits).tolist() == [10.0, 10.0]
    size = math.sqrt((1.0 + 9.0) / 2)
    assert np.abs(read_file(path, scorer="mean-z").logits).tolist() == pytest.approx([abs(1 / size - 1) / 2, abs(3 / size - 1) / 2])


def test_a_bad_record_is_named_with_its_line_or_left_out(tmp_path):
    path = write(tmp_path / "pairs.jsonl", [recorded(0), {"prompt": "alone"}, recorded(1), recorded(0)])
    with pytest.raises(RecordError, match=r"pairs\.jsonl:2"):
        read_file(path)
    assert len(read_file(path, on_bad_record="skip")) == 2


def test_what_route_writes_can_be_replayed(tmp_path):
    pair = Pair(prompt="p", response_a="yes", response_b="no")

    async def main():
        from judgeflow.store import MemoryStore

        async with Scheduler(judge=ScriptedJudge(), store=MemoryStore(), routing=RoutingConfig(policy="always")) as scheduler:
            return (await scheduler.route([pair])).outcomes[0]

    outcome = VirtualClock().run(main())
    trace = read_file(write(tmp_path / "outcomes.jsonl", [outcome_record(outcome)]))
    (testimony,) = trace.testimonies.values()
    assert testimony.replied.all()
    assert play(trace, WhatIf(policy="always")).logits[0] == (-outcome.logit if trace.swapped[0] else outcome.logit)


@pytest.mark.skipif(not JUDGEBENCH.is_file(), reason="skipped: no data")
def test_a_real_judge_on_real_reward_models_is_worth_what_is_known_of_it():
    trace = read_file(JUDGEBENCH, scorer="mean-z", template="verdict-scale")
    right = {
        policy: credit(play(trace, WhatIf(policy=policy, max_share=0.4, step_size=350)).logits, trace.truth).mean()
        for policy in ("error", "random", "oracle", "never")
    }
    assert len(trace) == 350
    assert right["oracle"] > right["error"] > right["random"] > right["never"]
    assert right["error"] - right["random"] > 0.016
