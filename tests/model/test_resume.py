"""Training that is stopped or killed goes on where it stood, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import orjson
import pytest
import torch
from backbones import CHATML, chat_tokenizer, save
from safetensors.torch import load_file
from sizes import QUICK, SMALL

from judgeflow.errors import UsageError
from judgeflow.model.checkpoint import load
from judgeflow.model.config import ModelConfig, TrainingConfig
from judgeflow.model.resume import state_folder
from judgeflow.model.scorer import SngpScorer
from judgeflow.model.train import train
from judgeflow.testing.pairs import pair_lines

TINY = replace(SMALL, features=64, projection=8)
SHORT = replace(QUICK, batch=16, evaluate_every=3)


class Interrupted:
    """Observes a run and asks it to stop after `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.records: list[dict] = []
        self._steps = steps

    def observe(self, record) -> None:
        self.records.append(dict(record))

    def stop(self) -> bool:
        return len(self.of("step")) >= self._steps

    def of(self, event: str) -> list[dict]:
        return [record for record in self.records if record["event"] == event]


def run(pairs, out, steps=10**6, *, model=TINY, training=SHORT, **more):
    """(fingerprint, what was told) of one run, which is stopped after `steps`: the fingerprint is None then."""
    told = Interrupted(steps)
    try:
        train(pairs, out, model=model, training=training, device="cpu", observe=told.observe, stop=told.stop, **more)
    except KeyboardInterrupt:
        return None, told
    (final,) = told.of("final")
    return final["fingerprint"], told


@pytest.mark.parametrize(
    ("model", "training", "stops"),
    [
        ({}, {}, (2, 3)),
        ({}, {"patience": 2, "epochs": 3.0}, (5, 3)),
        pytest.param({"uncertainty": "mc-dropout"}, {"micro_batch": 5}, (2, 3), marks=pytest.mark.slow),
        ({"uncertainty": "ensemble", "members": 3}, {}, (9, 2)),
        pytest.param({"uncertainty": "ensemble", "members": 3}, {"backbone_lr": None}, (7, 2), marks=pytest.mark.slow),
        pytest.param({"encoder": "concat", "surface": True}, {"schedule": "linear"}, (2, 3), marks=pytest.mark.slow),
    ],
    ids=["plain", "early-stop", "dropout", "ensemble", "frozen-ensemble", "concat"],
)
def test_a_run_that_was_stopped_twice_ends_as_one_that_was_not(tmp_path, learned, model, training, stops):
    shape, settings = replace(TINY, **model), replace(SHORT, **training)
    pairs = learned[:100]
    expected, whole = run(pairs, tmp_path / "whole", model=shape, training=settings)
    for steps in stops:
        assert run(pairs, tmp_path / "s", steps, model=shape, training=settings)[0] is None
        assert not (tmp_path / "s").exists()
        assert state_folder(tmp_path / "s").is_dir()
    found, last = run(pairs, tmp_path / "s", model=shape, training=settings)
    assert found == expected
    assert last.of("resume")
    assert len(last.of("step")) == len(whole.of("step")) - sum(stops)
    assert [record["loss"] for record in last.of("step")] == [record["loss"] for record in whole.of("step")][sum(stops) :]
    assert not state_folder(tmp_path / "s").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_from_its_last_state(tmp_path, learned, run_cli):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_bytes(b"".join(pair_lines(learned[:400])))
    arguments = ("train", pairs, "--out", tmp_path / "s", "--max-tokens", "48", "--epochs", "1", "--batch", "16", "--device", "cpu")
    command = [sys.executable, "-m", "judgeflow", *map(str, arguments), "--save-every", "0", "--metrics", "/dev/stdout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        told = [orjson.loads(process.stdout.readline()) for _ in range(8)]
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    assert [record["step"] for record in told] == list(range(1, 9))
    again = run_cli(*arguments, "--json", "--metrics", tmp_path / "metrics.jsonl")
    first, *rest = [orjson.loads(line) for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines()]
    assert first["event"] == "resume"
    assert 7 <= first["step"] < 22
    assert [record["step"] for record in rest[:-1]] == list(range(first["step"] + 1, 23))
    assert f"going on after step {first['step']} of an interrupted run" in again.err
    settings = TrainingConfig(epochs=1.0, batch=16, backbone_lr=3e-3)
    whole, _ = train(learned[:400], tmp_path / "whole", model=ModelConfig(max_tokens=48), training=settings, device="cpu")
    assert orjson.loads(again.out)["fingerprint"] == whole.fingerprint
    assert SngpScorer.load(tmp_path / "s", device="cpu").fingerprint == whole.fingerprint


def cut_off(folder):
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def altered(folder):
    (path,) = folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def garbled(folder):
    (folder / "state.json").write_bytes(b'{"identity": ')


def emptied(folder):
    (folder / "state.json").write_bytes(b"{}")


def lost(folder):
    (path,) = folder.glob("*.safetensors")
    path.unlink()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, learned):
    """The fingerprint of a whole run."""
    return run(learned[:70], tmp_path_factory.mktemp("whole") / "s")[0]


@pytest.mark.parametrize("damage", [cut_off, altered, garbled, emptied, lost])
def test_a_damaged_state_is_told_and_training_starts_over(tmp_path, learned, uninterrupted, damage):
    pairs = learned[:70]
    run(pairs, tmp_path / "s", 3)
    damage(state_folder(tmp_path / "s"))
    found, told = run(pairs, tmp_path / "s")
    (restart,) = told.of("restart")
    assert restart["reason"].startswith("it is damaged")
    assert told.of("step")[0]["step"] == 1
    assert found == uninterrupted


@pytest.mark.parametrize("change", ["pairs", "label", "strength", "settings", "model"])
def test_the_state_of_another_run_is_kept_and_told(tmp_path, learned, change):
    pairs, settings, shape = learned[:70], SHORT, TINY
    run(pairs, tmp_path / "s", 3)
    if change == "pairs":
        pairs = learned[1:71]
    elif change == "label":
        pairs = [replace(pairs[0], label="tie"), *pairs[1:]]
    elif change == "strength":
        pairs = [replace(pairs[0], metadata={"strength": 2}), *pairs[1:]]
    elif change == "settings":
        settings = replace(SHORT, lr=1e-3)
    else:
        shape = replace(TINY, spectral_bound=0.5)
    with pytest.raises(UsageError, match=r"other pairs, settings or another backbone: give that run's command again .* or --restart"):
        run(pairs, tmp_path / "s", 2, model=shape, training=settings)
    _, told = run(learned[:70], tmp_path / "s", 1)
    assert told.of("resume")[0]["step"] == 3
    _, told = run(pairs, tmp_path / "s", 2, model=shape, training=settings, restart=True)
    assert told.of("step")[0]["step"] == 1


def test_a_body_that_was_replaced_under_its_name_is_another_run(tmp_path, learned, trained):
    source, body = tmp_path / "body", trained[1]._network.encoder.body
    trained[1]._reader.layout._tokenizer.save_pretrained(source)
    body.save_pretrained(source)
    settings = replace(SHORT, backbone_lr=None)
    run(learned[:70], tmp_path / "s", 3, training=settings, backbone=str(source))
    with torch.no_grad():
        next(body.parameters())[0, 0] += 1.0
        body.save_pretrained(source)
        next(body.parameters())[0, 0] -= 1.0
    with pytest.raises(UsageError, match="another backbone"):
        run(learned[:70], tmp_path / "s", training=settings, backbone=str(source))


def test_a_restart_forgets_the_state(tmp_path, learned):
    run(learned[:70], tmp_path / "s", 3)
    _, told = run(learned[:70], tmp_path / "s", restart=True)
    assert not told.of("resume")
    assert not told.of("restart")
    assert told.of("step")[0]["step"] == 1


def test_a_state_is_kept_only_as_often_as_asked(tmp_path, learned):
    seen = []

    def look(record):
        seen.append(state_folder(tmp_path / "s").exists())

    train(learned[:70], tmp_path / "s", model=TINY, training=SHORT, device="cpu", observe=look, save_every_s=1000.0)
    assert not any(seen)
    train(learned[:70], tmp_path / "s", model=TINY, training=SHORT, device="cpu", observe=look, save_every_s=0.0)
    assert any(seen)


def test_a_state_that_cannot_be_written_names_its_folder(tmp_path, learned):
    state_folder(tmp_path / "s").write_text("a file")
    with pytest.raises(UsageError, match=r"\.s\.training: the state of training cannot be written"):
        train(learned[:70], tmp_path / "s", model=TINY, training=SHORT, device="cpu", save_every_s=0.0)


def test_adapters_are_trained_alone_kept_and_merged(tmp_path, learned, trained):
    body = trained[1]._network.encoder.body
    body.save_pretrained(tmp_path / "body")
    trained[1]._reader.layout._tokenizer.save_pretrained(tmp_path / "body")
    settings, source = replace(SHORT, lora_rank=2, backbone_lr=1e-2, patience=5, gradient_checkpointing=True), str(tmp_path / "body")
    expected, _ = run(learned[:100], tmp_path / "whole", training=settings, backbone=source)
    run(learned[:100], tmp_path / "s", 3, training=settings, backbone=source)
    (path,) = state_folder(tmp_path / "s").glob("*.safetensors")
    kept = [name for name in load_file(path) if name.startswith("encoders.")]
    assert kept
    assert all("lora_" in name for name in kept)
    found, told = run(learned[:100], tmp_path / "s", training=settings, backbone=source)
    assert told.of("resume")
    assert found == expected
    before, after = body.state_dict(), load(tmp_path / "s").network.encoder.body.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.equal(value.cpu(), after[name])}
    assert "encoder.layer.0.attention.self.query.weight" in changed
    assert "embeddings.word_embeddings.weight" not in changed
    assert all(name.endswith(".weight") for name in changed)


def test_a_state_of_another_tokenizer_is_not_gone_on_from(tmp_path, learned):
    """The same folder and weights, but texts are read in another way now."""
    source = save("llama", tmp_path / "body", chat_tokenizer())
    frozen = replace(SHORT, backbone_lr=None)
    shape = replace(TINY, max_tokens=64)
    assert run(learned[:100], tmp_path / "s", 3, model=shape, training=frozen, backbone=str(source))[0] is None
    chat_tokenizer(CHATML.replace("assistant", "helper").replace("m['role'] +", "m['role'] + ':' +")).save_pretrained(source)
    with pytest.raises(UsageError, match="other pairs, settings or another backbone"):
        run(learned[:100], tmp_path / "s", model=shape, training=frozen, backbone=str(source))
