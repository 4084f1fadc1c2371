"""HelpSteer2, UltraFeedback, hh-rlhf, implicit prompts and sets with columns of their own, as labelled pairs."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from published import argilla, argilla_cleaned, helpsteer2, hh_rlhf, ultrafeedback, write_lines
from pyarrow import parquet
from typer.testing import CliRunner

from judgeflow.adapters.datasets import read_dataset, scan_dataset
from judgeflow.adapters.formats import pairs_of
from judgeflow.adapters.sources import Reading
from judgeflow.cli.app import app
from judgeflow.cli.records import read_records, reading_of
from judgeflow.errors import RecordError, UsageError
from judgeflow.model.config import ModelConfig
from judgeflow.model.data import labelled, make_examples
from judgeflow.types import Message

USER, BOT = "user", "assistant"


def better(pair):
    return {"a": pair.response_a, "b": pair.response_b}.get(pair.label)


def messages(*contents):
    return tuple(Message(role=(USER, BOT)[place % 2], content=content) for place, content in enumerate(contents))


@pytest.fixture
def one(tmp_path):
    """Read one record."""

    def read(record, **options):
        (pair,) = read_dataset(write_lines(tmp_path / "set.jsonl", [record]), **options)
        return pair

    return read


# HelpSteer2


def test_a_strength_says_which_response_is_better_and_how_much_the_label_counts(tmp_path):
    pairs = read_dataset(
        write_lines(tmp_path / "preference.jsonl.gz", [helpsteer2(n, strength) for n, strength in enumerate(range(-3, 4))])
    )
    assert [pair.label for pair in pairs] == ["a", "a", "a", "tie", "b", "b", "b"]
    assert [pair.response_a for pair in pairs] == [f"{n} is even." for n in range(7)]
    assert [pair.metadata["preference_strength"] for pair in pairs] == [-3, -2, -1, 0, 1, 2, 3]
    assert [pair.metadata.get("strength") for pair in pairs] == [3, 2, 1, None, 1, 2, 3]
    assert pairs[0].metadata["preference_statement"].startswith("@Response 1")
    assert "all_preferences_unprocessed" not in pairs[0].metadata


def test_further_turns_of_a_helpsteer_prompt_are_messages(one):
    prompt = "Hi.\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\n2 + 2?"
    assert one(helpsteer2(1) | {"prompt": prompt}).prompt == messages("Hi.", "Hello.", "2 + 2?")
    assert one(helpsteer2(1)).prompt == "Is 1 even?"


def test_a_split_may_be_a_column(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [helpsteer2(n, split="val" if n == 2 else "train") for n in range(4)])
    assert [pair.prompt for pair in read_dataset(path, split="val")] == ["Is 2 even?"]
    assert len(read_dataset(path, split="train")) == 3
    with pytest.raises(UsageError, match="no record has the split test; the column split says train, val"):
        read_dataset(path, split="test")


# UltraFeedback


def test_ultrafeedback_keeps_scores_and_leaves_out_what_is_said_twice(one):
    pair = one(ultrafeedback(7))
    assert (pair.prompt, better(pair), pair.id) == (messages("Say 7."), "7", "hash-7")
    assert dict(pair.metadata) == {"score_chosen": 8.5, "score_rejected": 6.0}


def test_equal_scores_are_a_tie_whichever_response_was_called_chosen(one):
    assert one(ultrafeedback(7, scores=(6.0, 6.0))).label == "tie"
    assert one(ultrafeedback(7, scores=(None, None))).label in {"a", "b"}
    assert better(one(ultrafeedback(7, scores=(6.0, 6.0)), format="preference")) == "7"


def contradicting(folder):
    """A set of six: two that contradict themselves, one with equal scores, one without scores, two as they should be."""
    scores = [(8.5, 6.0), (3.0, 6.0), (6.0, 6.0), (None, None), ("4", "4.5"), (9, 1)]
    return write_lines(folder / "set.jsonl", [ultrafeedback(n, scores=each) for n, each in enumerate(scores)])


TOLD = "2 with a higher score for the rejected response (the label stays what the set says), 1 with equal scores (a tie), of 5 scored pairs"


def test_scores_that_contradict_the_set_are_counted_and_its_label_stays(tmp_path, one):
    scan = scan_dataset(contradicting(tmp_path))
    assert scan.doubt == TOLD
    assert [better(pair) for pair in scan.pairs] == ["0", "1", None, "3", "4", "5"]
    assert scan_dataset(write_lines(tmp_path / "other.jsonl", [ultrafeedback(1), argilla(2), argilla_cleaned(3)])).doubt is None
    assert scan_dataset(contradicting(tmp_path), Reading(format="preference")).doubt is None
    single = write_lines(tmp_path / "one.jsonl", [ultrafeedback(1, scores=(1, 1))])
    assert scan_dataset(single).doubt == "1 with equal scores (a tie), of 1 scored pair"


def test_scores_that_contradict_the_set_are_told_once_by_every_verb(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    contradicting(tmp_path)
    done = judgeflow("import", "set.jsonl", "--url", "v.db", "--no-progress", "--json")
    assert done.stderr.count(f"set.jsonl: {TOLD}\n") == 1
    assert json.loads(done.stdout)["stored"]["label"] == {"new": 6, "known": 0}
    read_records(Path("set.jsonl"), "fatal", Reading())
    assert capsys.readouterr().err == f"set.jsonl: {TOLD}\n"


def test_argillas_variants_are_read_as_ultrafeedback(one, tmp_path):
    plain, cleaned = one(argilla(7)), one(argilla_cleaned(7))
    assert (plain.prompt, better(plain), plain.metadata["chosen_avg_rating"]) == ("Say 7.", "7", 4.75)
    assert (cleaned.prompt, better(cleaned), cleaned.metadata["rejected-model"]) == (messages("Say 7."), "7", "parrot")
    assert {scan_dataset(write_lines(tmp_path / "a.jsonl", [each(1)])).format for each in (argilla, argilla_cleaned)} == {"ultrafeedback"}


# hh-rlhf


def test_dialogues_of_hh_rlhf_have_the_turns_before_the_last_answer_as_their_prompt(one):
    pair = one(hh_rlhf(7))
    assert (pair.prompt, better(pair)) == (messages("Hi", "Hello", "Is 7 a number?"), "yes")
    prompt = hh_rlhf(7, ("", ""))["chosen"]
    assert one({"prompt": prompt, "chosen": " yes", "rejected": " no"}, format="hh-rlhf") == pair
    assert one({side: text.strip() for side, text in hh_rlhf(7).items()}, format="hh-rlhf") == pair


def test_an_empty_answer_of_hh_rlhf_is_a_bad_record_with_its_line(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [hh_rlhf(1), hh_rlhf(2, ("yes", ""))])
    with pytest.raises(RecordError, match=r"set.jsonl:2: rejected is empty"):
        read_dataset(path)


# The prompt in both texts


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answer"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is", " blue."),
        ("It is a bear", "It is a beard", "It is a", " bear"),
        ("Why?\nBecause.", "Why?\nHow so?", "Why?", "\nBecause."),
    ],
)
def test_texts_that_begin_alike_have_whole_words_of_it_as_their_prompt(one, chosen, rejected, prompt, answer):
    pair = one({"chosen": chosen, "rejected": rejected}, format="implicit-prompt")
    assert (pair.prompt, better(pair)) == (prompt, answer)


def test_an_implicit_prompt_of_texts_is_never_guessed(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [{"question": "2 + 2?", "chosen": "It is 4", "rejected": "It is 5"}])
    with pytest.raises(
        RecordError, match=r"prompt is missing; .*--columns prompt=NAME; where both begin with it: --format implicit-prompt"
    ):
        read_dataset(path)
    with pytest.raises(RecordError, match="do not begin with the same words"):
        read_dataset(write_lines(path, [{"chosen": "yes", "rejected": "no"}]), format="implicit-prompt")


# Columns


def test_columns_may_have_other_names(one):
    pair = one(
        {"instruction": "p", "better": "x", "worse": "y", "n": 1},
        columns={"prompt": "instruction", "chosen": "better", "rejected": "worse"},
    )
    assert (pair.prompt, better(pair), dict(pair.metadata)) == ("p", "x", {"n": 1})
    arena = {"conversation_a": ["p", "x"], "conversation_b": ["p", "y"]}
    arena = {key: [{"role": (USER, BOT)[place], "content": text} for place, text in enumerate(texts)] for key, texts in arena.items()}
    pair = one(arena, columns={"response_a": "conversation_a", "response_b": "conversation_b"})
    assert (pair.prompt, pair.response_a, pair.response_b) == (messages("p"), "x", "y")


def test_columns_can_make_a_set_one_of_the_known_ones(one):
    names = {"prompt": "context", "response_1": "response1", "response_2": "response2", "preference_strength": "overall_preference"}
    record = {
        "context": [{"role": USER, "content": "p"}],
        "response1": "x",
        "response2": "y",
        "overall_preference": 2,
        "domain": "general",
    }
    pair = one(record, columns=names)
    assert (pair.prompt, pair.label, pair.metadata["strength"]) == (messages("p"), "b", 2)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"promt": "instruction"}, "columns: no format reads a key promt; did you mean prompt?"),
        ({"prompt": "instr"}, "set.jsonl:1: instr of --columns is missing; the keys are instruction, better, worse"),
        ({"chosen": "better"}, "set.jsonl:1: prompt, rejected is missing; a record needs"),
    ],
)
def test_columns_that_are_not_there_are_named(tmp_path, columns, told):
    path = write_lines(tmp_path / "set.jsonl", [{"instruction": "p", "better": "x", "worse": "y"}])
    with pytest.raises(UsageError, match=told):
        read_dataset(path, columns=columns)


def test_columns_on_the_command_line_are_pairs_of_names():
    found = reading_of("auto", None, None, "prompt=instruction, chosen = better").columns
    assert dict(found) == {"prompt": "instruction", "chosen": "better"}
    with pytest.raises(UsageError, match="--columns prompt: expected KEY=COLUMN"):
        reading_of("auto", None, None, "prompt")
    with pytest.raises(UsageError, match="--columns: id is given twice, as a and as b"):
        reading_of("auto", None, None, "id=a,id=b")


# What is no set of pairs


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (helpsteer2(1, 4), "preference_strength is 4; a whole number from -3 .response_1 is much better. to 3 is expected"),
        (helpsteer2(1, None), "preference_strength is None"),
        (helpsteer2(1, 0.5), "preference_strength is 0.5"),
        (helpsteer2(1) | {"response_2": " "}, "response_2 is empty"),
        (argilla(1) | {"rejected_response": None}, "rejected_response is null; it should be a string, or messages"),
        (ultrafeedback(1) | {"chosen": [{"role": USER, "content": "x"}]}, "chosen is a dialogue that does not end with a message of the"),
        (
            hh_rlhf(1) | {"chosen": "\n\nHuman: x"},
            "chosen is a dialogue that does not end with a message of the assistant, but of the user",
        ),
        ({"prompt": "p", "completion": "x", "label": True}, "holds a single response, and no pair: put two responses to a prompt into one"),
        ({"prompt": "p"}, "holds no two responses to compare: prompts and single dialogues are for trainers"),
        ({"messages": []}, "holds no two responses to compare"),
        (
            {"prompt": "p", "response": "x", "helpfulness": 3, "correctness": 4},
            "holds a single response with ratings, and no pair; of nvidia/HelpSteer2 the pairs are in --subset",
        ),
        ({"prompt": "p", "response_a": "x"}, "response_b is missing; a record needs prompt, response_a, response_b, or say which column"),
        ({}, "the keys are none, of no format known"),
    ],
)
def test_what_holds_no_pair_says_what_it_is_and_what_can_be_done(tmp_path, record, told):
    with pytest.raises(RecordError, match=rf"set.jsonl:1: {told}"):
        read_dataset(write_lines(tmp_path / "set.jsonl", [record]))


# Folders and the hub


READ = """
import json, sys
from judgeflow.adapters.datasets import read_dataset
from judgeflow.errors import UsageError
for source, options in json.loads(sys.argv[1]):
    try:
        print(json.dumps([pair.prompt if isinstance(pair.prompt, str) else pair.id for pair in read_dataset(source, **options)]))
    except UsageError as error:
        print(json.dumps(str(error)))
"""


def in_fresh_process(folder, *asked):
    """The prompts or ids of the pairs, or the error, of each: the datasets library reads its settings once, when it is imported."""
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", READ, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder)
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in '["']


def hub_layouts(folder):
    """Folders as the sets lie on the hub."""
    ultra, steer, hh = (folder / name for name in ("ultra", "steer", "hh"))
    for each in (ultra / "data", steer / "preference", hh / "helpful-base", hh / "harmless-base"):
        each.mkdir(parents=True)
    splits = ("train_prefs", "test_prefs")
    for number, split in enumerate(splits):
        parquet.write_table(pa.Table.from_pylist([ultrafeedback(number)]), ultra / "data" / f"{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    (ultra / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    write_lines(steer / "train.jsonl.gz", [{"prompt": "p", "response": "x", "helpfulness": 3, "correctness": 4}])
    rows = [helpsteer2(number, split=split) for number, split in enumerate(("train", "val", "train"))]
    write_lines(steer / "preference" / "preference.jsonl.gz", rows)
    for name in ("helpful-base", "harmless-base"):
        write_lines(hh / name / "train.jsonl.gz", [hh_rlhf(1)])
    configs = "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in ("helpful-base", "harmless-base"))
    (hh / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


def test_a_folder_or_a_name_of_the_hub_is_read_by_the_datasets_library_with_its_subsets_and_splits(tmp_path):
    hub_layouts(tmp_path)
    told = in_fresh_process(
        tmp_path,
        ("./ultra", {"split": "test_prefs"}),
        ("./ultra", {}),
        ("./steer", {"subset": "preference"}),
        ("./steer", {"subset": "preference", "split": "val"}),
        ("./steer", {}),
        ("./hh", {"subset": "helpful-base"}),
        ("./hh", {}),
        ("./steer", {"subset": "prefs"}),
        ("nvidia/HelpSteer2", {"subset": "preference"}),
        ("allenai/reward-bench", {}),
    )
    assert told[0] == ["hash-1"]
    assert told[1] == "./ultra: has the splits train_prefs, test_prefs; name one (--split)"
    assert told[2] == ["Is 0 even?", "Is 1 even?", "Is 2 even?"]
    assert told[3] == ["Is 1 even?"]
    assert "./steer (train): row 1: holds a single response with ratings, and no pair; of nvidia/HelpSteer2" in told[4]
    assert told[5] == [None]
    assert told[6] == "./hh: has the subsets helpful-base, harmless-base; name one (--subset)"
    assert told[7].startswith("./steer: the datasets library cannot read prefs in this folder")
    for name, answer in zip(("nvidia/HelpSteer2", "allenai/reward-bench"), told[8:], strict=True):
        assert answer.startswith(f"{name}: there is no such file or folder, and the hub could not be reached")
        assert answer.endswith("a local .jsonl, .json or .parquet file can be given instead of a name")


# The verbs


def judgeflow(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_import_takes_the_labels_of_any_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "hs.jsonl.gz", [helpsteer2(n, n - 1, split="val" if n else "train") for n in range(3)])
    write_lines(tmp_path / "hh.jsonl", [hh_rlhf(n) for n in range(4)])
    write_lines(tmp_path / "own.jsonl", [{"q": "p", "good": "x", "bad": "y"}])
    for arguments, labels in (
        (("hs.jsonl.gz", "--split", "val"), 2),
        (("hh.jsonl",), 4),
        (("own.jsonl", "--columns", "prompt=q,chosen=good,rejected=bad"), 1),
    ):
        done = judgeflow("import", *arguments, "--url", "v.db", "--no-progress", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["stored"]["label"] == {"new": labels, "known": 0}
    again = json.loads(judgeflow("import", "hs.jsonl.gz", "--url", "v.db", "--no-progress", "--json").stdout)
    assert again["stored"]["label"] == {"new": 1, "known": 2}


@pytest.mark.parametrize(
    "verb",
    [
        ("import", "set.jsonl"),
        ("route", "set.jsonl", "--out", "o.jsonl"),
        ("train", "set.jsonl", "--out", "scorer"),
        ("score", "set.jsonl", "--scorer", "scorer", "--evaluate"),
    ],
)
def test_every_verb_says_the_same_about_a_set_that_it_cannot_use(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judgeflow.toml").write_text('[judge]\nbase_url = "http://127.0.0.1:1"\nmodel = "m"\n[routing]\npolicy = "always"\n')
    write_lines(tmp_path / "set.jsonl", [{"prompt": "p", "completion": "x"}])
    for options, told in (
        ((), "set.jsonl:1: holds a single response, and no pair"),
        (("--columns", "chosen"), "--columns chosen: expected KEY=COLUMN"),
        (("--subset", "s"), "set.jsonl: a file has no subsets; leave --subset away"),
        (("--format", "helpsteer2"), "set.jsonl:1: response_1, response_2, preference_strength is missing"),
    ):
        with pytest.raises(UsageError) as error:
            judgeflow(*verb, *options)
        assert told in str(error.value)


def test_labels_of_a_format_are_what_a_scorer_learns_from():

    records = [helpsteer2(n, strength) for n, strength in enumerate((-3, 1, 0))]
    pairs = [pair for record in records for pair in pairs_of(record, "helpsteer2")]
    _, examples = make_examples(labelled(pairs), ModelConfig())
    assert examples.target.tolist() == [1.0, 0.0, 0.5]
    assert (examples.strength / examples.strength[1]).tolist() == pytest.approx([3.0, 1.0, 1.0])
    assert Counter(pair.label for pair in pairs) == {"a": 1, "b": 1, "tie": 1}
