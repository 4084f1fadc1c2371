"""A scorer on disk: what is written is what is loaded, and what is damaged is named."""

import shutil
from dataclasses import replace

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from sizes import QUICK, SMALL
from tamper import reseal

from judgeflow.errors import ConfigurationError
from judgeflow.model import checkpoint
from judgeflow.model.scorer import SngpScorer
from judgeflow.model.train import train


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "copy")


def test_a_loaded_scorer_gives_the_same_scores_under_the_same_name(trained, unseen, copy):
    loaded = SngpScorer.load(copy, device="cpu")
    assert loaded.fingerprint == trained[1].fingerprint
    assert loaded.score(unseen) == trained[1].score(unseen)


def test_a_checkpoint_holds_no_pickle(copy):
    assert {path.suffix for path in copy.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".jinja", ".txt"}


@pytest.mark.parametrize("name", ["model.safetensors", "backbone/config.json", "tokenizer/tokenizer.json"])
def test_a_file_that_is_cut_off_is_named(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigurationError, match=f"{name}: cut off or altered"):
        SngpScorer.load(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/tokenizer.json"])
def test_a_file_that_is_missing_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name}: missing"):
        SngpScorer.load(copy)


def test_a_summary_that_was_changed_is_told(copy):
    path = copy / checkpoint.SUMMARY
    path.write_bytes(path.read_bytes().replace(b'"temperature"', b'"temperaturf"'))
    with pytest.raises(ConfigurationError, match="altered after it was written"):
        SngpScorer.load(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 2, "fingerprint": "x"}', b"\xff"])
def test_a_summary_that_is_no_summary_is_told(copy, content):
    (copy / checkpoint.SUMMARY).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"damaged.*; copy the scorer again"):
        SngpScorer.load(copy)


def test_a_newer_format_is_told(copy):
    path = copy / checkpoint.SUMMARY
    path.write_bytes(path.read_bytes().replace(b'"format": 2', b'"format": 9'))
    with pytest.raises(ConfigurationError, match="format 9 is not known"):
        SngpScorer.load(copy)


def test_a_folder_that_is_no_scorer_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigurationError, match="judgeflow train"):
        SngpScorer.load(tmp_path)


def test_weights_with_nan_name_the_tensor(copy):
    tensors = load_file(copy / checkpoint.WEIGHTS)
    tensors["heads.0.beta"] = torch.full_like(tensors["heads.0.beta"], float("nan"))
    save_file(tensors, copy / checkpoint.WEIGHTS)
    reseal(copy)
    with pytest.raises(ConfigurationError, match=r"heads\.0\.beta holds NaN"):
        SngpScorer.load(copy)


def test_weights_of_another_shape_do_not_fit_and_the_tensor_is_named(copy):
    tensors = load_file(copy / checkpoint.WEIGHTS)
    del tensors["heads.0.beta"]
    save_file(tensors, copy / checkpoint.WEIGHTS)
    reseal(copy)
    with pytest.raises(ConfigurationError, match=r'do not fit the model: Missing key.* "heads\.0\.beta".*; copy the scorer again'):
        SngpScorer.load(copy)


def test_weights_of_a_wholly_different_model_are_told_in_one_short_line(copy):
    save_file({"weight": torch.zeros(2)}, copy / checkpoint.WEIGHTS)
    reseal(copy)
    with pytest.raises(ConfigurationError, match="do not fit the model") as caught:
        SngpScorer.load(copy)
    assert len(str(caught.value)) < 300 + len(str(copy))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_told(copy):
    from judgeflow.model.scratch import character_tokenizer

    shutil.rmtree(copy / "tokenizer")
    character_tokenizer(["".join(map(chr, range(32, 1000)))], 48).save_pretrained(copy / "tokenizer")
    reseal(copy)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        SngpScorer.load(copy)


@pytest.mark.parametrize("change", [{"features": "many"}, {"colour": 1}, {"projection": -4}])
def test_an_impossible_shape_is_told(copy, change):
    path = copy / checkpoint.SUMMARY
    summary = orjson.loads(path.read_bytes())
    summary["model"] |= change
    path.write_bytes(orjson.dumps(summary))
    reseal(copy)
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        SngpScorer.load(copy)


def test_a_folder_with_something_else_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="nothing is overwritten"):
        checkpoint.check_target(tmp_path)
    checkpoint.check_target(tmp_path / "new")


def test_a_scorer_can_go_behind_a_link_or_into_a_folder_that_is_yet_to_be_made(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert checkpoint.check_target(tmp_path / "link") == (tmp_path / "real").resolve()
    assert checkpoint.check_target(tmp_path / "a" / "b").parent.is_dir()


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        checkpoint.check_target(tmp_path / "file" / "scorer")


def test_saving_again_replaces_the_scorer_and_leaves_nothing_else_behind(tmp_path, trained, learned):
    neighbour = tmp_path / "scorer.partial"
    neighbour.mkdir()
    (neighbour / "thesis.tex").write_text("years of work")
    for seed in (0, 1):
        train(learned[:300], tmp_path / "scorer", model=SMALL, training=replace(QUICK, seed=seed), device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scorer", "scorer.partial"]
    assert (neighbour / "thesis.tex").exists()
    SngpScorer.load(tmp_path / "scorer", device="cpu")
