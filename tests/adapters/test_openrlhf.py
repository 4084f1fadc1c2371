"""OpenRLHF's texts taken apart, and its reward function called as it calls it: once a sample, each on a thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from judgeflow.adapters.gathering import Place
from judgeflow.adapters.openrlhf import Sample, answer_of, legacy_groups_of, samples_of
from judgeflow.errors import UsageError
from judgeflow.testing import FakeJudge, arithmetic_pairs, serve_in_thread

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "openrlhf_reward.py"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
TURN = CHAT.format("Go on, please.")


@pytest.mark.parametrize(
    ("query", "prompt", "response"),
    [
        ("What is 2+2? It is 4.</s>", "What is 2+2?", " It is 4."),
        ("<s>What is 2+2? It is 4.<|eot_id|><|end_of_text|>", "What is 2+2?", " It is 4."),
        ("What is 2+2?", "What is 2+2?", ""),
        (CHAT.format("Hi") + "Hello <|im_end|> there.<|im_end|>\n", CHAT.format("Hi"), "Hello <|im_end|> there."),
        (CHAT.format("Hi" * 500)[700:] + "Hello.<|im_end|>", CHAT.format("Hi" * 500), "Hello."),
        ("<s>s</s>", "s", ""),
        ("<s> [INST]<s>s", "[INST]", "<s>s"),
        (TURN * 2 + "1", TURN * 3, "1"),
        ("-" * 50_000 + "1", "?" + "-" * 50_000, "1"),
        (
            CHAT.format("Go on, please.") + CHAT.format("Go on, please.") + "2",
            CHAT.format("Go on, please."),
            CHAT.format("Go on, please.") + "2",
        ),
    ],
)
def test_a_response_is_what_follows_its_prompt_without_special_tokens_at_its_end(query, prompt, response):
    assert samples_of({"query": [query], "prompts": [prompt], "labels": [None]}) == [Sample(prompt=prompt, response=response)]


@pytest.mark.parametrize(("query", "prompt"), [("What is it?", "What is that?"), ("a" * 90, "b" + "a" * 64 + "c"), ("anything", "")])
def test_a_query_without_its_prompt_is_refused(query, prompt):
    with pytest.raises(UsageError, match=r"query\[0\] (does not have its prompt|has an empty prompt)"):
        samples_of({"query": [query], "prompts": [prompt]})


def test_scores_tell_dynamic_filtering_which_groups_taught_nothing():
    def answer(*shares):
        places = [Place(reward=share - 0.5, share=share, of=len(shares), wanted=len(shares), sources={}) for share in shares]
        return answer_of(places)["scores"]

    assert answer(0.5, 0.5) == answer(1 / 3 + 1 / 6, 0.5) == [0.0, 0.0]
    assert answer(0.8, 0.2) == [0.6, 0.6]
    assert all(0 < score < 1 for score in answer(1.0, 0.0))


def test_a_batch_without_prompts_is_cut_at_the_last_marker():
    one, other = CHAT.format("a\nassistant\nb"), CHAT.format("c")
    queries = [one + "x<|im_end|>", one + "y<|im_end|>", other + "z", other]
    groups = legacy_groups_of({"query": queries}, 2, "<|im_start|>assistant\n")
    assert [[sample.response for sample in group] for group in groups] == [["x", "y"], ["z", ""]]
    assert groups[0][0].prompt == one


@pytest.mark.parametrize(
    ("queries", "complaint"),
    [
        (["p|x", "p|y", "p|z"], "query has 3 entries, and 2 are expected for each prompt"),
        (["p|x", "q|y"], r"query\[0\] to query\[1\] are expected to have one prompt, and have several"),
        (["p|x", "py"], r"query\[1\] does not have the marker '\|'"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused(queries, complaint):
    with pytest.raises(UsageError, match=complaint):
        legacy_groups_of({"query": queries}, 2, "|")


PROGRAM = """
import importlib.util, json, sys
from concurrent.futures import ThreadPoolExecutor

spec = importlib.util.spec_from_file_location("reward_func", sys.argv[1])  # as OpenRLHF does
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
reward_func = module.reward_func

samples = json.load(sys.stdin)
with ThreadPoolExecutor(len(samples)) as threads:
    answers = list(threads.map(lambda sample: reward_func([sample[0]], [sample[1]], [None]), samples))
print(json.dumps(answers))
"""


def test_a_reward_function_answers_samples_that_are_asked_about_on_threads_and_the_program_ends(tmp_path):
    scorerless = '[routing]\npolicy = "always"\n[judge]\nmodel = "fake-judge"\nbase_url = "{}"\n[store]\nurl = "verdicts.db"\n'
    pairs = arithmetic_pairs(3)
    samples = [
        (CHAT.format(pair.prompt) + response + "<|im_end|>", CHAT.format(pair.prompt))
        for pair in pairs
        for response in (pair.response_a, pair.response_b, "I do not know.")
    ]
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as judge:
        (tmp_path / "judgeflow.toml").write_text(scorerless.format(judge.base_url))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, EXAMPLE],
            cwd=tmp_path,
            env=os.environ | {"SAMPLES": "3"},
            input=json.dumps(samples),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for start in range(0, len(answers), 3):
        group = answers[start : start + 3]
        assert sum(answer["rewards"][0] for answer in group) == pytest.approx(0)
        assert all(answer["extra_logs"] == {"judged_share": [1.0], "group_incomplete": [0.0]} for answer in group)
    assert judge.statistics.answered == 2 * 3 * len(pairs)
