"""Scorers over decoders, reward models and adapted bodies: trained, written, loaded, and the same again."""

from dataclasses import replace

import pytest
from backbones import TOKENIZER, chat_tokenizer, save
from sizes import QUICK, SMALL

from judgeflow.model.scorer import SngpScorer
from judgeflow.model.train import train
from judgeflow.types import Pair, as_prompt

FROZEN = replace(QUICK, backbone_lr=None, epochs=1.0)
TALK = as_prompt([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}, {"role": "user", "content": "why"}])
ODD = [
    Pair(prompt="", response_a="", response_b="so"),
    Pair(prompt=TALK, response_a="because<|e|>", response_b="<|s|>system"),
    Pair(prompt="[CLS]", response_a="[SEP][PAD]", response_b="[UNK]"),
    Pair(prompt="why", response_a="no end " * 15_000, response_b="b"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "training", "tokenizer"),
    [
        ("llama", FROZEN, chat_tokenizer()),
        ("qwen2", replace(QUICK, lora_rank=2), chat_tokenizer()),
        ("llama-reward", FROZEN, TOKENIZER),
        ("bert-reward", replace(QUICK, lora_rank=2), TOKENIZER),
        ("gpt2", QUICK, TOKENIZER),
    ],
)
@pytest.mark.parametrize("encoder", ["siamese", "concat"])
def test_a_scorer_over_it_is_trained_written_and_loaded(tmp_path, learned, family, training, tokenizer, encoder):
    source = str(save(family, tmp_path / "body", tokenizer))
    model = replace(SMALL, encoder=encoder, max_tokens=64)
    scorer, report = train(learned[:200], tmp_path / "s", backbone=source, model=model, training=training, device="cpu")
    loaded = SngpScorer.load(tmp_path / "s", device="cpu")
    expected = scorer.score([*learned[:20], *ODD])
    assert loaded.score([*learned[:20], *ODD]) == expected
    assert [p.logit for p in loaded.score([pair.swapped() for pair in ODD])] == [-p.logit for p in expected[20:]]
    assert report.steps > 0
    assert loaded.seen.cut_texts > 0
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"judgeflow.json", "model.safetensors", "backbone", "tokenizer"}


def test_labels_of_one_kind_only_are_learned_like_any_others(tmp_path, learned):
    always_a = [replace(pair, label="a") for pair in learned[:200]]
    _, report = train(always_a, tmp_path / "s", model=SMALL, training=QUICK, device="cpu")
    assert report.validation.pairs == report.validation_pairs
