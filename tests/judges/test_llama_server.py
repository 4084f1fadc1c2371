"""llama.cpp answers for real: SmolLM2 with 135 million parameters on a CPU, set up as docs/judges.md says.

What it thinks of the pairs proves nothing about them.  Prints agreement and latencies, which the page quotes.
"""

import re

import pytest
from recipes import blocks, sections

from judgeflow.types import Pair

pytestmark = pytest.mark.judges

RECIPE, SHORT = blocks("llama.cpp", "toml")
FACTS = [
    ("What is the capital of France?", "Paris.", "Rome."),
    ("Which planet is closest to the Sun?", "Mercury.", "Neptune."),
    ("Spell 'receive'.", "r-e-c-e-i-v-e", "r-e-c-i-e-v-e"),
    ("How many legs has a spider?", "Eight.", "Six."),
    ("What is the opposite of hot?", "Cold.", "Warm."),
    ("Who wrote Hamlet?", "Shakespeare.", "Mozart."),
]
PAIRS = [
    Pair(id=f"fact-{number}", prompt=prompt, response_a=right, response_b=wrong, label="a")
    if number % 2
    else Pair(id=f"fact-{number}", prompt=prompt, response_a=wrong, response_b=right, label="b")
    for number, (prompt, right, wrong) in enumerate(FACTS)
]
BRIEF = ("--set", "judge.template=short.toml", "--set", "judge.max_completion_tokens=16")
TAG = ("--set", """judge.extra_body={"grammar": "root ::= \\"[[\\" [AB] \\"]]\\""}""")

MISTAKEN = ("--set", """judge.extra_body={"grammar": "root ::= nonsense"}""")


@pytest.fixture
def here(llama, folder):
    made = folder(RECIPE, llama)
    (made.path / "short.toml").write_text(SHORT)
    made.write_pairs(PAIRS)
    return made


def test_the_page_quotes_the_grammar_that_is_asked_with():
    assert """with `grammar = 'root ::= "[[" [AB] "]]"'`""" in sections()["llama.cpp"]


def test_every_reply_in_both_orders_has_a_verdict_and_a_second_run_asks_nothing(here, publish):
    outcomes, summary, ended = here.route(*BRIEF, *TAG)
    assert ended.code == 0, ended.err
    assert (summary["calls"], summary["statuses"], summary["sources"]) == (12, {"ok": 6}, {"judge": 6})
    assert all({outcome["choice_ab"], outcome["choice_ba"]} <= {"a", "b"} for outcome in outcomes)
    assert all(outcome["prompt_tokens"] > 200 and 4 <= outcome["completion_tokens"] <= 32 for outcome in outcomes)
    assert summary["prompt_tokens"] == sum(outcome["prompt_tokens"] for outcome in outcomes)
    calls = here.events()
    again, second, _ = here.route(*BRIEF, *TAG)
    assert (second["calls"], second["sources"], len(here.events())) == (0, {"store": 6}, len(calls))
    assert [outcome["logit"] for outcome in again] == [outcome["logit"] for outcome in outcomes]
    publish(
        f"llama.cpp, SmolLM2-135M Q4_1: {len(calls)} replies in {summary['seconds']:.1f} s, all readable; both orders agree on "
        f"{summary['agreement']:.2f} of {len(PAIRS)}; {here.latencies()}; "
        f"{summary['prompt_tokens'] / len(calls):.0f} tokens in, {summary['completion_tokens'] / len(calls):.0f} out a reply"
    )


def test_the_doctor_finds_the_server_and_has_a_question_answered_with_the_recipe_as_it_stands(here):
    found = here.doctor("--ask")
    assert found["judge"]["detail"].endswith("is there and knows judge")
    assert found["question to judge"]["ok"]
    assert "answers in both orders" in found["question to judge"]["detail"]
    assert "its headers say nothing about limits" in found["question to judge"]["detail"]
    other = here.doctor("--set", "judge.model=gpt-9")["judge"]
    assert other["ok"]
    assert "answers as its one model 'judge' whatever it is asked for" in other["detail"]


def test_without_a_grammar_a_reply_that_is_cut_is_truncated_and_counted(here):
    here.write_pairs(PAIRS[:1])
    outcomes, summary, ended = here.route(*BRIEF, "--set", "judge.max_completion_tokens=2", "--set", "judge.extra_body={}")
    assert ended.code == 0
    assert [(outcome["status"], outcome["choice"]) for outcome in outcomes] == [("truncated", None)]
    assert (summary["calls"], summary["completion_tokens"]) == (2, 4)


@pytest.mark.parametrize(
    ("settings", "pair", "said"),
    [
        ((), Pair(prompt="Repeat.", response_a="word " * 3000, response_b="word"), "exceeds the available context size"),
        (MISTAKEN, PAIRS[0], "failed to parse grammar"),
    ],
    ids=["a question longer than a slot", "a grammar with a mistake"],
)
def test_what_the_server_does_not_accept_is_rejected_with_its_words(here, settings, pair, said):
    here.write_pairs([pair])
    outcomes, summary, ended = here.route(*BRIEF, *settings)
    assert [outcome["status"] for outcome in outcomes] == ["rejected"]
    assert summary["calls"] == 0
    assert "warning: a question is not accepted" in ended.err
    assert said in ended.err


def test_the_doctor_tells_what_the_server_says_to_a_question_that_it_does_not_accept(here):
    found = here.doctor("--ask", *BRIEF, *MISTAKEN)["question to judge"]
    assert not found["ok"]
    assert "failed to parse grammar" in found["detail"]


def test_a_reply_that_takes_longer_than_timeout_s_is_lost_and_the_next_run_gets_it(here):
    here.write_pairs(PAIRS[:1])
    slow = ("--set", """judge.extra_body={"grammar": "root ::= [a-z ]{400,400}"}""", "--set", "judge.max_completion_tokens=500")
    outcomes, summary, ended = here.route(*BRIEF, *slow, "--set", "judge.timeout_s=0.3", "--set", "judge.retry_attempts=1")
    assert [outcome["status"] for outcome in outcomes] == ["reply_lost"]
    assert re.search(r"no reply within 0\.3 s \(\[judge\] timeout_s\)", ended.err)
    assert ended.code == 1
    assert summary["remaining"]["requests"] == 10_000 - 2, "the server may have answered all the same"
    outcomes, _, ended = here.route(*BRIEF, *TAG)
    assert [outcome["status"] for outcome in outcomes] == ["ok"], ended.err
