"""Records of a training run as JSON lines and as TensorBoard files."""

import sys

import orjson
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from judgeflow.errors import ConfigurationError
from judgeflow.model.metrics import json_lines, tensorboard


def step(number: int, member: int = 0) -> dict:
    return {"event": "step", "step": number, "member": member, "loss": 1.0 / number, "lr": 0.1}


def lines(path):
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_new_run_begins_the_file_anew_and_one_that_goes_on_adds_to_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event":"final"}\n')
    for records in ([step(1), step(2)], [{"event": "resume", "step": 2, "member": 0}, step(3)]):
        with json_lines(path) as observe:
            for record in records:
                observe(record)
    assert [(record["event"], record["step"]) for record in lines(path)] == [("step", 1), ("step", 2), ("resume", 2), ("step", 3)]
    with json_lines(path) as observe:
        observe({"event": "restart", "reason": "it is damaged"})
        observe(step(1))
    assert [record["event"] for record in lines(path)] == ["restart", "step"]


def test_every_line_is_there_as_soon_as_it_happened(tmp_path):
    with json_lines(tmp_path / "m") as observe:
        observe({**step(1), "gradient_norm": float("inf")})
        assert lines(tmp_path / "m") == [{**step(1), "gradient_norm": None}]


def test_a_run_that_never_began_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "m").write_text('{"event":"final"}\n')
    with json_lines(tmp_path / "m"):
        pass
    assert (tmp_path / "m").read_text() == '{"event":"final"}\n'


@pytest.mark.parametrize("content", ['{"prompt": "p"}\n', "thesis\n", "17\n", "\n"])
def test_a_file_with_something_else_in_it_is_left_alone(tmp_path, content):
    (tmp_path / "pairs.jsonl").write_text(content)
    with pytest.raises(ConfigurationError, match="nothing is lost"), json_lines(tmp_path / "pairs.jsonl"):
        pass
    assert (tmp_path / "pairs.jsonl").read_text() == content


def test_a_tuning_that_goes_on_adds_to_the_file(tmp_path):
    path = tmp_path / "m"
    trial = {"event": "trial", "accuracy": 0.7}
    for records in ([{**trial, "again": False}, step(1)], [{**trial, "again": True}, {"event": "resume", "step": 1, "member": 0}, step(2)]):
        with json_lines(path) as observe:
            for record in records:
                observe(record)
    assert [record["event"] for record in lines(path)] == ["trial", "step", "trial", "resume", "step"]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--metrics .*: cannot be written: Is a directory"), json_lines(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"--tensorboard .*file: cannot be written"), tensorboard(tmp_path / "file"):
        pass


def test_tensorboard_gets_the_numbers_of_every_record(tmp_path):
    with tensorboard(tmp_path / "board") as observe:
        for record in (step(1), step(2), step(1, member=1), {"event": "final", "fingerprint": "f", "accuracy": 0.7, "auroc_error": None}):
            observe(record)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert set(events.Tags()["scalars"]) == {"step/loss", "step/lr", "step-1/loss", "step-1/lr", "final/accuracy"}
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [(1, 1.0), (2, 0.5)]


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'judgeflow\[tensorboard\]'"), tensorboard(tmp_path):
        pass
