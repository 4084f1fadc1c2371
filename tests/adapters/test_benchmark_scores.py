"""The benchmarks' own scores: against the published formulas, written out."""

import random

import numpy as np
import pytest
from published import DOMAINS, judgebench, rewardbench, rm_bench

from judgeflow.adapters.formats import REWARDBENCH_WEIGHTS, pairs_of
from judgeflow.adapters.scores import benchmark_score, rewardbench_score, rm_bench_score
from judgeflow.errors import RecordError
from judgeflow.types import Outcome


def read(records, kind):
    return [pair for record in records for pair in pairs_of(record, kind)]


def towards_better(pair, margin):
    return margin if pair.label == "a" else -margin


def value(score, part, figure="accuracy"):
    return score.parts[part][figure].value


def test_rm_bench_is_scored_as_published_upper_right_hard_diagonal_normal_lower_left_easy():
    dice = random.Random(1)
    records = [rm_bench(n) for n in range(20)]
    rewards = {record["id"]: {side: [dice.randrange(4) for _ in range(3)] for side in ("chosen", "rejected")} for record in records}
    matrix = np.mean([np.greater.outer(each["chosen"], each["rejected"]) for each in rewards.values()], axis=0)

    def logit(pair):
        (i, j), own = pair.metadata["cell"], rewards[pair.group]
        return towards_better(pair, own["chosen"][i] - own["rejected"][j])

    score = rm_bench_score((pair, logit(pair)) for pair in read(records, "rm-bench"))
    assert value(score, "chat", "hard") == pytest.approx(np.triu(matrix, 1).sum() / 3)
    assert value(score, "chat", "normal") == pytest.approx(np.diag(matrix).mean())
    assert value(score, "chat", "easy") == pytest.approx(np.tril(matrix, -1).sum() / 3)
    assert value(score, "total", "average") == pytest.approx(matrix.mean())
    assert (score.pairs, score.prompts, score.missing) == (180, 20, DOMAINS[1:])


def test_the_total_of_rm_bench_is_the_mean_of_its_domains_and_safety_the_mean_of_its_halves():
    right = {"chat": 1.0, "code": -1.0, "math": 1.0, "safety-refuse": -1.0, "safety-response": 1.0}
    records = [rm_bench(n, domain) for k, domain in enumerate(DOMAINS) for n in range(1 + 2 * k)]
    pairs = read(records, "rm-bench")
    score = rm_bench_score((pair, towards_better(pair, right[pair.metadata["subset"]])) for pair in pairs)
    assert [value(score, name, "hard") for name in ("chat", "code", "math", "safety")] == [1.0, 0.0, 1.0, 0.5]
    assert value(score, "total", "average") == pytest.approx(2.5 / 4)
    assert score.missing == ()


def test_a_tie_is_wrong():
    pairs = read([rm_bench(0)], "rm-bench")
    assert value(rm_bench_score((pair, 0.0) for pair in pairs), "total", "average") == 0.0


def test_a_matrix_that_is_not_complete_says_which_comparisons_are_missing():
    pairs = [pair for pair in read([rm_bench(0), rm_bench(1)], "rm-bench") if pair.id not in {"chat/1/0-2", "chat/1/2-2"}]
    with pytest.raises(RecordError, match=r"prompt chat/1 has 7 of its 9 comparisons; missing are chat/1/0-2, chat/1/2-2"):
        rm_bench_score((pair, 1.0) for pair in pairs)
    with pytest.raises(RecordError, match="prompt chat/0 stands there more than once"):
        rm_bench_score((pair, 1.0) for pair in read([rm_bench(0), rm_bench(0)], "rm-bench"))


def test_rewardbench_weighs_subsets_as_published_and_categories_alike():
    records = [rewardbench(n, subset) for n, subset in enumerate(s for subsets in REWARDBENCH_WEIGHTS.values() for s in subsets)]
    wrong = {"math-prm", "llmbar-adver-neighbor"}
    judged = [(pair, towards_better(pair, -1.0 if pair.metadata["subset"] in wrong else 1.0)) for pair in read(records, "rewardbench")]
    score = rewardbench_score(judged)
    assert value(score, "Chat") == value(score, "Safety") == 1.0
    assert value(score, "Reasoning") == pytest.approx(0.5)
    assert value(score, "Chat Hard") == pytest.approx(1 - 134 / 456)
    assert value(score, "total") == pytest.approx((1 + 1 + 0.5 + 1 - 134 / 456) / 4)
    assert score.missing == ()


def test_a_part_of_rewardbench_is_scored_by_what_is_there_and_names_what_is_not():
    score = rewardbench_score((pair, towards_better(pair, 1.0)) for pair in read([rewardbench(0, "math-prm")], "rewardbench"))
    assert set(score.parts) == {"Reasoning", "total"}
    assert "hep-python" in score.missing
    assert len(score.missing) == 22


def test_the_interval_holds_the_share_and_is_as_wide_as_the_number_of_prompts_allows_not_of_pairs():
    dice = random.Random(3)
    many = read([rewardbench(n, "hep-python") for n in range(400)], "rewardbench")
    few = read([rewardbench(n, "hep-python", prompt=f"Prompt {n % 8}") for n in range(400)], "rewardbench")
    fate = [dice.random() < 0.7 for _ in range(400)]
    of_few = [dice.random() < 0.7 for _ in range(8)]
    wide = rewardbench_score((pair, towards_better(pair, 1 if of_few[n % 8] else -1)) for n, pair in enumerate(few))
    narrow = rewardbench_score((pair, towards_better(pair, 1 if fate[n] else -1)) for n, pair in enumerate(many))
    estimate, loose = narrow.parts["total"]["accuracy"], wide.parts["total"]["accuracy"]
    assert estimate.value == pytest.approx(sum(fate) / 400)
    half = 1.96 * np.sqrt(estimate.value * (1 - estimate.value) / 400)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.15)
    assert loose.low < loose.value < loose.high
    assert loose.high - loose.low > 4 * (estimate.high - estimate.low)


def test_outcomes_are_scored_like_pairs_with_logits():
    pairs = read([rm_bench(0), rm_bench(1, "code")], "rm-bench")
    logits = [towards_better(pair, 1.0 if pair.metadata["difficulty"] == "easy" else -1.0) for pair in pairs]
    outcomes = [Outcome(pair=pair, logit=logit, source="judge") for pair, logit in zip(pairs, logits, strict=True)]
    assert rm_bench_score(outcomes) == benchmark_score(zip(pairs, logits, strict=True))
    assert value(rm_bench_score(outcomes), "total", "easy") == 1.0


def test_only_benchmarks_with_a_score_of_their_own_have_one():
    assert benchmark_score((pair, 1.0) for pair in read([judgebench(0)], "judgebench")) is None
    assert benchmark_score([]) is None
    mixed = read([rm_bench(0)], "rm-bench") + read([rewardbench(0)], "rewardbench")
    assert benchmark_score((pair, 1.0) for pair in mixed) is None
    with pytest.raises(RecordError, match="pair pair-0: is not one that was read as rm-bench"):
        rm_bench_score((pair, 1.0) for pair in read([judgebench(0)], "judgebench"))
    with pytest.raises(RecordError, match="rewardbench: there are no pairs to score"):
        rewardbench_score([])
