"""The spectral bound is the smallest that costs no accuracy, and scores keep the plain model's range."""

from dataclasses import replace

import orjson
import pytest
import torch
from sizes import QUICK, SMALL

from judgeflow.errors import UsageError
from judgeflow.model.checkpoint import read_summary
from judgeflow.model.config import ModelConfig, TuningConfig
from judgeflow.model.data import Examples
from judgeflow.model.reading import Reading
from judgeflow.model.resume import state_folder
from judgeflow.model.train import train
from judgeflow.model.trainer import Material
from judgeflow.model.tune import Trial, TrialBook, Tuner
from judgeflow.model.watch import Watch


def trial(bound, accuracy, logit_std=1.0) -> Trial:
    return Trial(spectral_bound=bound, accuracy=accuracy, logit_std=logit_std, seconds=1.0)


def material(held_out: int) -> Material:
    """Nothing to read: 100 held-out pairs decide about the tolerance alone."""
    first = torch.zeros(held_out, dtype=torch.int64)
    new = Examples(first, first + 1, torch.ones(held_out), torch.ones(held_out))
    return Material([], [], Reading([], torch.zeros(0, 0)), new, new)


def choose(tmp_path, *trials, model=SMALL, **tuning):
    """Tune with trials that are done already."""
    book = TrialBook(tmp_path, "run")
    for each in trials:
        book.add(each)

    def build(config: ModelConfig):
        raise AssertionError(f"nothing is to be trained, certainly not with bound {config.spectral_bound}")

    return Tuner(build, QUICK, 4096, watch=Watch(), book=TrialBook(tmp_path, "run")).tune(material(100), model, TuningConfig(**tuning))


def test_the_smallest_bound_within_one_standard_error_is_chosen(tmp_path):
    found = choose(tmp_path, trial(None, 0.8), trial(1.0, 0.75), trial(2.0, 0.765), trial(4.0, 0.9), grid=(4.0, 1.0, 2.0))
    assert found.tolerance == pytest.approx(0.04)
    assert found.model.spectral_bound == 2.0
    assert found.within
    assert [each.spectral_bound for each in found.trials] == [None, 1.0, 2.0]


def test_a_tolerance_can_be_given(tmp_path):
    found = choose(tmp_path, trial(None, 0.8), trial(1.0, 0.75), trial(2.0, 0.79), trial(4.0, 0.81), grid=(1.0, 2.0, 4.0), tolerance=0.0)
    assert found.model.spectral_bound == 4.0


def test_where_no_bound_will_do_the_most_accurate_is_chosen_and_said_to_be_too_low(tmp_path):
    found = choose(tmp_path, trial(None, 0.9), trial(1.0, 0.6), trial(2.0, 0.7), trial(4.0, 0.65), grid=(1.0, 2.0, 4.0))
    assert found.model.spectral_bound == 2.0
    assert not found.within
    assert found.as_json()["within"] is False


def test_the_logit_scale_gives_back_the_plain_models_range(tmp_path):
    found = choose(tmp_path, trial(None, 0.8, 3.0), trial(1.0, 0.8, 1.5), model=replace(SMALL, logit_scale=10.0), grid=(1.0,))
    assert found.model.logit_scale == pytest.approx(20.0)


def test_trials_of_another_run_and_damaged_ones_are_made_again(tmp_path):
    TrialBook(tmp_path, "run").add(trial(1.0, 0.8))
    assert TrialBook(tmp_path, "run").find(1.0) == trial(1.0, 0.8)
    assert TrialBook(tmp_path, "run").find(2.0) is None
    assert TrialBook(tmp_path, "other").find(1.0) is None
    (tmp_path / "trials.json").write_bytes(b'{"identity": "run", "trials": [{}]}')
    assert TrialBook(tmp_path, "run").find(1.0) is None


@pytest.fixture(scope="module")
def body(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("body")
    trained[1]._network.encoder.body.save_pretrained(folder)
    trained[1]._reader.layout._tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_frozen_body_reads_once_and_the_checkpoint_records_what_was_tried(tmp_path, learned, body):
    read, records = [], []

    def progress(activity, done, total):
        if activity == "reading" and done == total:
            read.append(total)

    frozen = replace(QUICK, backbone_lr=None, epochs=2.0)
    train(
        learned[:800],
        tmp_path / "s",
        backbone=body,
        model=replace(SMALL, logit_scale=0.5),
        training=frozen,
        tuning=TuningConfig(grid=(0.5, 4.0)),
        device="cpu",
        progress=progress,
        observe=lambda record: records.append(dict(record)),
    )
    assert len(read) == 1
    recorded = read_summary(tmp_path / "s")
    tuning, model = recorded["training"]["tuning"], recorded["model"]
    assert (tuning["spectral_bound"], tuning["logit_scale"]) == (model["spectral_bound"], model["logit_scale"])
    tried = [record["spectral_bound"] for record in records if record["event"] == "trial"]
    assert tried == [each["spectral_bound"] for each in tuning["trials"]]
    assert tried[:2] == [None, 0.5]
    plain, chosen = tuning["trials"][0]["logit_std"], tuning["trials"][-1]["logit_std"]
    reached = recorded["training"]["logit_std"]
    assert abs(reached - plain) < abs(chosen - plain)
    assert not state_folder(tmp_path / "s").exists()


def test_the_chosen_config_gives_the_same_scorer_without_tuning(tmp_path, learned):
    """No trial has touched what the final training starts from."""
    few, shape = learned[:150], replace(SMALL, features=64, projection=8)
    tuned, _ = train(few, tmp_path / "tuned", model=shape, training=QUICK, tuning=TuningConfig(grid=(1.0,), tolerance=1.0), device="cpu")
    chosen = ModelConfig.from_json(read_summary(tmp_path / "tuned")["model"])
    again, _ = train(few, tmp_path / "again", model=chosen, training=QUICK, device="cpu")
    assert chosen.logit_scale != shape.logit_scale
    assert tuned.fingerprint == again.fingerprint


def test_a_run_that_was_stopped_while_tuning_does_not_repeat_its_trials(tmp_path, learned):
    few, shape, tuning = learned[:150], replace(SMALL, features=64, projection=8), TuningConfig(grid=(1.0,), tolerance=1.0)
    records: list[dict] = []
    seen = {"training with bound 1": False}

    def progress(activity, done, total):
        if activity in seen:
            seen[activity] = True

    with pytest.raises(KeyboardInterrupt):
        train(
            few,
            tmp_path / "s",
            model=shape,
            training=QUICK,
            tuning=tuning,
            device="cpu",
            progress=progress,
            stop=lambda: any(seen.values()),
        )
    kept = orjson.loads((state_folder(tmp_path / "s") / "trials.json").read_bytes())["trials"]
    assert [each["spectral_bound"] for each in kept] == [None]
    told: list[str] = []
    train(
        few,
        tmp_path / "s",
        model=shape,
        training=QUICK,
        tuning=tuning,
        device="cpu",
        progress=lambda activity, done, total: told.append(activity),
        observe=lambda record: records.append(dict(record)),
    )
    assert "training the plain model" not in told
    assert "training with bound 1" in told
    assert next(record["seconds"] for record in records if record["event"] == "trial") == kept[0]["seconds"]


def test_only_a_bounded_model_can_be_tuned(tmp_path, learned):
    with pytest.raises(UsageError, match="tuning chooses a spectral bound; uncertainty 'ensemble' has none"):
        train(learned[:100], tmp_path / "s", model=replace(SMALL, uncertainty="ensemble"), tuning=TuningConfig())


@pytest.mark.parametrize("values", [{"grid": ()}, {"grid": (1.0, -1.0)}, {"tolerance": -0.1}])
def test_a_tuning_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match="expected"):
        TuningConfig(**values)
