"""One dialogue, whichever way it comes in: from a file, a data set, a trainer or over HTTP, it has one key, so it is paid for once."""

import json
from dataclasses import replace

import aiohttp
import pytest
from published import write_lines
from served import scheduler, serving

from judgeflow.adapters.datasets import read_dataset
from judgeflow.adapters.trl import judge_reward_sync
from judgeflow.keys import pair_keys, question
from judgeflow.records import outcome_record, read_pairs
from judgeflow.types import Message, Pair
from judgeflow.verdicts.prompt import load_template, render

TURNS = [("system", "Be kind."), ("user", "Hi!"), ("assistant", "Hello."), ("user", "2 + 2?")]
TALK = [{"role": role, "content": content} for role, content in TURNS]
HH = "\n\nHuman: Hi!\n\nAssistant: Hello.\n\nHuman: 2 + 2?\n\nAssistant:"
CHATML = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in TURNS) + "<|im_start|>assistant\n"
PAIR = Pair(prompt=TALK, response_a="4", response_b="5")


def say(text):
    return [{"role": "assistant", "content": text}]


RECORDS = {
    "pairs": {"prompt": TALK, "response_a": "4", "response_b": "5"},
    "pairs, responses as messages": {"prompt": TALK, "response_a": say("4"), "response_b": say("5")},
    "preference": {"prompt": TALK, "chosen": say("4"), "rejected": say("5")},
    "implicit prompt": {"chosen": TALK + say("4"), "rejected": TALK + say("5")},
    "ultrafeedback": {
        "prompt": "2 + 2?",
        "chosen": TALK + say("4"),
        "rejected": TALK + say("5"),
        "score_chosen": 9.0,
        "score_rejected": 2.0,
    },
    "rendered": {"chosen": CHATML + "4<|im_end|>\n", "rejected": CHATML + "5<|im_end|>\n"},
    "parts": {
        "prompt": [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in TALK],
        "response_a": "4",
        "response_b": "5",
    },
    "helpsteer2": {"prompt": TALK, "response_1": "4", "response_2": "5", "preference_strength": -1},
}


@pytest.mark.parametrize("form", RECORDS)
def test_a_record_of_any_format_has_the_key_of_its_dialogue(tmp_path, form):
    (pair,) = read_dataset(write_lines(tmp_path / "one.jsonl", [RECORDS[form]]))
    assert pair_keys(pair).pair == pair_keys(PAIR).pair
    assert pair.prompt == tuple(Message(role=role, content=content) for role, content in TURNS)


def test_a_dialogue_of_hh_rlhf_has_the_key_of_its_messages(tmp_path):
    (pair,) = read_dataset(write_lines(tmp_path / "one.jsonl", [{"chosen": f"{HH} 4", "rejected": f"{HH} 5"}]))
    assert pair_keys(pair).pair == pair_keys(Pair(prompt=TALK[1:], response_a="4", response_b="5")).pair


class Asked:
    """Keeps what an adapter wants to know."""

    def route_groups_sync(self, groups, step=None):
        self.pairs = [pair for group in groups for pair in group.pairs()]
        raise InterruptedError


@pytest.mark.parametrize("answer", [say, lambda text: [{"role": "assistant", "content": [{"type": "text", "text": text}]}]])
def test_a_trainers_messages_have_the_key_of_the_dialogue(answer):
    asked = Asked()
    with pytest.raises(InterruptedError):
        judge_reward_sync(asked)([TALK, TALK], [answer("4"), answer("5")])
    assert [pair_keys(pair).pair for pair in asked.pairs] == [pair_keys(PAIR).pair]


async def test_messages_over_http_and_outcomes_that_are_read_again_have_the_key_of_the_dialogue(tmp_path):
    async with scheduler([PAIR]) as router, serving(router) as served, aiohttp.ClientSession() as session:
        body = {"pairs": [{"prompt": TALK, "response_a": "5", "response_b": "4"}]}
        async with session.post(f"{served.url}/v1/route", json=body) as response:
            first = json.loads(await response.read())
        result = await router.route([PAIR])
    assert [first["outcomes"][0]["source"], result.outcomes[0].source] == ["judge", "store"]
    pairs, _ = read_pairs(write_lines(tmp_path / "outcomes.jsonl", [outcome_record(result.outcomes[0])]))
    assert pair_keys(pairs[0]).pair == pair_keys(PAIR).pair


def test_a_judge_is_shown_a_rendered_prompt_as_the_dialogue_that_it_is():
    shown = {}
    for name, prompt in (("rendered", CHATML), ("messages", TALK)):
        pair = Pair(prompt=prompt, response_a="4", response_b="5")
        (message,) = render(load_template("verdict-abc"), replace(question(pair, pair_keys(pair), b"judge"), nonce="0" * 16))[-1:]
        shown[name] = message.content
    assert shown["rendered"] == shown["messages"]
    assert "System: Be kind.\n\nUser: Hi!" in shown["rendered"]
