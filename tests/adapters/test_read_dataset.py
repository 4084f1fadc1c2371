"""Published files, folders and names as labelled pairs, and what is said about those that cannot be read."""

import gzip
import json

import pyarrow as pa
import pytest
from published import (
    helpsteer2,
    hh_rlhf,
    judgebench,
    preference,
    rewardbench,
    rewardbench2,
    rm_bench,
    ultrafeedback,
    write_array,
    write_lines,
)
from pyarrow import parquet

from judgeflow.adapters.datasets import read_dataset, scan_dataset
from judgeflow.adapters.sources import Reading
from judgeflow.errors import RecordError, UsageError
from judgeflow.records import read_pairs
from judgeflow.types import Message

PUBLISHED = {
    "rewardbench": rewardbench(1),
    "rewardbench2": rewardbench2(1),
    "rm-bench": rm_bench(1),
    "judgebench": judgebench(1),
    "preference": preference(1),
    "helpsteer2": helpsteer2(1),
    "ultrafeedback": ultrafeedback(1),
    "hh-rlhf": hh_rlhf(1),
    "pairs": {"prompt": "p", "response_a": "x", "response_b": "y"},
}


def better(pair):
    return pair.response_a if pair.label == "a" else pair.response_b


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_format_is_recognised_by_its_keys_and_reads_as_if_it_had_been_named(tmp_path, name):
    path = write_lines(tmp_path / "set.jsonl", [PUBLISHED[name]])
    assert scan_dataset(path).format == name
    assert scan_dataset(path) == scan_dataset(path, Reading(format=name))


def test_rewardbench_records_become_pairs_with_their_category_and_the_better_response_in_either_place(tmp_path):
    subsets = ["alpacaeval-easy", "llmbar-natural", "donotanswer", "math-prm"]
    path = write_lines(tmp_path / "set.jsonl", [rewardbench(n, subsets[n % 4]) for n in range(40)])
    pairs = read_dataset(path)
    assert [better(pair) for pair in pairs] == [f"It is {2 * n}." for n in range(40)]
    assert [pair.id for pair in pairs] == [str(n) for n in range(40)]
    assert [pair.metadata["category"] for pair in pairs[:4]] == ["Chat", "Chat Hard", "Safety", "Reasoning"]
    assert {pair.label for pair in pairs} == {"a", "b"}
    assert [pair.label for pair in pairs] == [pair.label for pair in read_dataset(path)]


def test_every_chosen_of_rm_bench_meets_every_rejected_and_dress_tells_how_hard_that_is(tmp_path):
    pairs = read_dataset(write_array(tmp_path / "total_dataset.json", [rm_bench(4, "safety-refuse")]))
    found = {(pair.id, better(pair), pair.metadata["difficulty"]) for pair in pairs}
    assert len(pairs) == 9
    assert {pair.group for pair in pairs} == {"safety-refuse/4"}
    assert {pair.metadata["category"] for pair in pairs} == {"safety"}
    assert ("safety-refuse/4/0-2", "8", "hard") in found
    assert ("safety-refuse/4/2-0", "**8** is the *sum*.", "easy") in found
    assert ("safety-refuse/4/1-1", "Added up, that makes 8.", "normal") in found


def test_rm_bench_may_call_its_domain_subset(tmp_path):
    record = rm_bench(4)
    record["subset"] = record.pop("domain")
    assert {pair.metadata["subset"] for pair in read_dataset(write_lines(tmp_path / "set.jsonl", [record]))} == {"chat"}


def test_every_correct_response_of_rewardbench_2_meets_every_incorrect_one(tmp_path):
    pairs = read_dataset(write_lines(tmp_path / "set.jsonl", [rewardbench2(5), rewardbench2(8, correct=2)]))
    assert [pair.group for pair in pairs] == ["focus:5"] * 3 + ["focus:8"] * 6
    assert [better(pair) for pair in pairs] == ["6 is one."] * 3 + ["9 is one."] * 3 + ["10 is one."] * 3


def test_responses_of_judgebench_stay_where_they_are(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [judgebench(2), judgebench(3, "B>A", "livecodebench")])
    first, second = read_dataset(path)
    assert (first.response_a, first.label, first.metadata["category"]) == ("Response A of 2.", "a", "Knowledge")
    assert (second.id, second.group, second.label, second.metadata["category"]) == ("pair-3", "1", "b", "Coding")


def test_conversations_that_end_with_the_responses_give_the_prompt_they_share(tmp_path):
    (pair,) = read_dataset(write_lines(tmp_path / "set.jsonl", [preference(7)]))
    assert pair.prompt == (Message(role="user", content="Say 7."),)
    assert (better(pair), pair.metadata) == ("7", {"score_chosen": 9.0})


def test_lines_arrays_and_parquet_hold_the_same_pairs(tmp_path):
    records = [rm_bench(n) for n in range(3)]
    lines = write_lines(tmp_path / "set.jsonl", records)
    array = write_array(tmp_path / "set.json", records)
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "set.parquet")
    assert scan_dataset(lines) == scan_dataset(array) == scan_dataset(tmp_path / "set.parquet")
    assert len(scan_dataset(lines).pairs) == 27


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (rewardbench(1) | {"subset": "alpacaeval-hrad"}, "subset is 'alpacaeval-hrad', which RewardBench does not have"),
        (rewardbench(1) | {"id": None}, "id is None"),
        (rewardbench(1) | {"chosen": " "}, "chosen is empty"),
        (rewardbench(1) | {"prompt": 7}, "prompt: a prompt is a text or a list of messages, not int"),
        ({key: value for key, value in rewardbench(1).items() if key != "prompt"}, "prompt is missing"),
        (rewardbench2(1) | {"num_correct": 2}, "num_correct is 2, but chosen has 1 responses"),
        (rewardbench2(1) | {"rejected": "no"}, "rejected should be a list of responses"),
        (rm_bench(1) | {"chosen": ["one", "two"]}, "chosen has 2 responses; 3 are expected: concise, detailed plain, detailed markdown"),
        (rm_bench(1) | {"rejected": ["one", "two", 3]}, "rejected[2] is int; it should be a string"),
        ({key: value for key, value in rm_bench(1).items() if key != "domain"}, "subset is missing"),
        (judgebench(1) | {"label": "A=B"}, 'label is \'A=B\'; accepted are "A>B" and "B>A"'),
        (judgebench(1) | {"question": None}, "question is NoneType"),
        (
            preference(1) | {"rejected": [{"role": "user", "content": "x"}]},
            "rejected is a dialogue that does not end with a message of the assistant, but of the user",
        ),
        ({"chosen": "x", "rejected": "y"}, "prompt is missing; where another column holds it"),
        ({"instruction": "x", "output": "y"}, "the keys are instruction, output, of no format known; known are pairs, preference"),
        ("text", "a record is a JSON object"),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_file_line_and_key(tmp_path, record, told):
    path = write_lines(tmp_path / "set.jsonl", [rewardbench(0) if "subset" in record else judgebench(0), record])
    path.write_text(path.read_text().splitlines()[1] + "\n")
    with pytest.raises(RecordError) as error:
        read_dataset(path)
    assert f"{path}:1: {told}" in str(error.value)


def test_bad_records_beside_good_ones_stop_everything_or_are_left_out(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [rm_bench(0), judgebench(1), rm_bench(2)])
    with pytest.raises(RecordError, match=r"set.jsonl:2: prompt, chosen, rejected, id, subset is missing"):
        read_dataset(path)
    scan = scan_dataset(path)
    assert (len(scan.pairs), [record.place for record in scan.bad]) == (18, [f"{path}:2"])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("set.json", b"[{]", "set.json:1: not valid JSON"),
        ("set.jsonl", b"{oops\n", "set.jsonl:1: not valid JSON"),
        ("set.jsonl", b"\n\n", "holds no usable pair"),
        ("set.parquet", b"no such thing", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_broken_is_named(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=told):
        read_dataset(tmp_path / name)


def test_a_line_that_is_no_json_hides_no_other_bad_record(tmp_path):
    path = tmp_path / "set.jsonl"
    bad = ["hello world", json.dumps(preference(1) | {"chosen": 1}), "[1, 2]", '"x"', "{"]
    for lines in (bad, [*bad, json.dumps(preference(2))]):  # without a single good one, and with one
        path.write_text("\n".join(lines))
        with pytest.raises(RecordError) as caught:
            read_dataset(path)
        told = [each.removeprefix(f"{path}:").partition(":") for each in str(caught.value).splitlines()]
        assert [place for place, _, _ in told if place.isdigit()] == ["1", "2", "3", "4", "5"]


def test_many_bad_records_without_a_good_one_are_counted(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"prompt": \n' * 1_234)
    with pytest.raises(RecordError, match=r"holds no usable pair(.|\n)*set.jsonl:10: not valid JSON.*\n\.\.\. and 1,224 more"):
        read_dataset(path)


def test_a_first_line_that_is_a_list_makes_no_array_of_a_file_of_lines(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [[{"role": "user", "content": "x"}], preference(1)])
    with pytest.raises(RecordError, match=r"set\.jsonl:1: a record is a JSON object, not an array"):
        read_dataset(path)
    assert len(scan_dataset(path).pairs) == 1


def test_an_array_that_is_broken_names_the_bad_records_before_the_break(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(f'[{json.dumps(preference(1))},\n7,\n{{"chosen": "x"}},\n{{"prompt": oops}}, {{"chosen": "y"}}]')
    with pytest.raises(RecordError) as caught:
        read_dataset(path)
    told = [each.removeprefix(f"{path}:") for each in str(caught.value).splitlines()]
    assert told[0] == " record 2: a record is a JSON object"
    assert told[1].startswith(" record 3: prompt, response_a, response_b is missing")
    assert told[2].startswith("4: not valid JSON")
    assert told[2].endswith("what follows in this array cannot be read: mend it, or write one record a line")
    assert len(told) == 3


def test_a_compressed_file_holds_the_same_pairs_as_the_plain_one(tmp_path):
    records = [hh_rlhf(n) for n in range(3)]
    plain, packed = (write_lines(tmp_path / name, records) for name in ("set.jsonl", "set.jsonl.gz"))
    assert scan_dataset(packed) == scan_dataset(plain)
    (tmp_path / "set.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    assert scan_dataset(tmp_path / "set.json.gz").pairs == scan_dataset(plain).pairs
    assert read_pairs(packed)[0] == list(scan_dataset(plain).pairs)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"prompt": "p"}\n', "its name ends in .gz, and it is not compressed with gzip"),
        (gzip.compress(b'{"prompt": "p"}\n' * 99)[:-9], "what was compressed ends too early, or is damaged; copy or download it again"),
    ],
    ids=["plain", "cut"],
)
def test_a_compressed_file_that_is_broken_is_named(tmp_path, content, told):
    (tmp_path / "set.jsonl.gz").write_bytes(content)
    with pytest.raises(RecordError, match=rf"set.jsonl.gz: cannot be read: {told}"):
        read_dataset(tmp_path / "set.jsonl.gz")


def test_what_cannot_be_asked_for_is_refused(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [rm_bench(0)])
    with pytest.raises(UsageError, match="format rmbench: accepted are auto, pairs, preference, implicit-prompt"):
        read_dataset(path, format="rmbench")
    with pytest.raises(UsageError, match="a file has no splits, and its records no column split; leave --split away"):
        read_dataset(path, split="train")
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        read_dataset(tmp_path / "missing.jsonl")
    with pytest.raises(RecordError, match=r"cannot be read: .*No such file"):
        read_dataset(tmp_path / "missing.parquet")
