"""OUT and OUT.partial: nothing is overwritten by mistake, nothing is left half written under its final name."""

import os
import socket
import subprocess
import sys

import pytest

from judgeflow.cli.outcomes_file import OutcomesFile
from judgeflow.errors import JudgeflowError, UsageError


@pytest.fixture
def out(tmp_path):
    return tmp_path / "outcomes.jsonl"


def refusal(out, inputs=None):
    """What is said about a file that cannot be the outcomes'."""
    with pytest.raises(UsageError) as caught:
        OutcomesFile(out, inputs or {})
    message = str(caught.value)
    assert message.startswith(f"--out {out}")
    return message


def write(out, *lines):
    with OutcomesFile(out, {}) as outcomes:
        for line in lines:
            outcomes.write([line])
        outcomes.complete()


def test_outcomes_grow_in_the_partial_file_until_the_last_one_is_written(out):
    with OutcomesFile(out, {}) as outcomes:
        outcomes.write([b"1\n", b"2\n"])
        assert (outcomes.partial.read_bytes(), out.exists()) == (b"1\n2\n", False)
        outcomes.complete()
    assert (out.read_bytes(), outcomes.partial.exists()) == (b"1\n2\n", False)


def test_an_earlier_file_stands_until_it_is_replaced_as_a_whole(out):
    write(out, b"old\n")
    with OutcomesFile(out, {}) as outcomes:
        outcomes.write([b"new\n"])
        assert out.read_bytes() == b"old\n"
    assert (out.read_bytes(), outcomes.partial.read_bytes()) == (b"old\n", b"new\n")


def test_what_an_interrupted_run_left_is_replaced_by_the_first_new_outcome_and_not_before(out):
    partial = out.with_name("outcomes.jsonl.partial")
    partial.write_bytes(b"left behind, and longer\n")
    with OutcomesFile(out, {}):
        pass
    assert partial.read_bytes() == b"left behind, and longer\n"
    write(out, b"new\n")
    assert out.read_bytes() == b"new\n"


def test_a_run_that_wrote_nothing_leaves_nothing(out):
    with OutcomesFile(out, {}):
        pass
    assert list(out.parent.iterdir()) == []


def test_a_link_stays_a_link_and_the_file_behind_it_is_replaced(tmp_path, out):
    (tmp_path / "real").mkdir()
    out.symlink_to(tmp_path / "real" / "file.jsonl")
    for content in (b"1\n", b"2\n"):
        write(out, content)
        assert out.is_symlink()
        assert [path.name for path in (tmp_path / "real").iterdir()] == ["file.jsonl"]
        assert out.read_bytes() == content


def test_a_link_that_leads_to_itself_is_told(out):
    out.symlink_to(out)
    assert "cannot be written: Too many levels of symbolic links" in refusal(out)


@pytest.mark.parametrize("suffix", ["", ".partial"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device", "folder"])
def test_what_is_no_regular_file_is_left_alone(out, suffix, kind):
    path = out.with_name(out.name + suffix)
    with socket.socket(socket.AF_UNIX) as door:
        {
            "fifo": lambda: os.mkfifo(path),
            "socket": lambda: door.bind(str(path)),
            "link to a device": lambda: path.symlink_to("/dev/null"),
            "folder": path.mkdir,
        }[kind]()
        said = "is a folder; name a file in it" if kind == "folder" else "is a device or a pipe, which cannot be replaced by a file"
        assert said in refusal(out)
    assert path.exists()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("name", ["outcomes.jsonl", "outcomes.jsonl.partial"])
def test_what_the_run_reads_is_not_overwritten_whatever_it_is_called(tmp_path, out, link, name):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("pairs")
    assert f"--out {pairs} would overwrite {pairs}, the pairs" in refusal(pairs, {pairs: "the pairs"})
    getattr(tmp_path / name, link)(pairs)
    assert "overwrite" in refusal(out, {pairs: "the pairs"})
    assert pairs.read_text() == "pairs"


def test_a_folder_that_is_not_there_or_no_folder_is_told(tmp_path, out):
    out.write_text("")
    assert f"the folder {tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere" / "o.jsonl")
    assert "cannot be written: Not a directory" in refusal(out / "o.jsonl")


def test_a_file_that_cannot_be_made_is_told_before_anything_is_asked(tmp_path):
    assert "cannot be written: File name too long" in refusal(tmp_path / ("o" * 250))


def test_two_runs_cannot_write_one_file_and_the_second_is_told_which(out):
    with OutcomesFile(out, {}) as first:
        first.write([b"1\n"])
        assert f"another judgeflow is writing {first.partial}; wait for it, or name another file" in refusal(out)
        first.complete()
    assert out.read_bytes() == b"1\n"
    write(out, b"2\n")


def test_a_killed_run_blocks_nobody(out):
    code = f"""
import os, pathlib, signal
from judgeflow.cli.outcomes_file import OutcomesFile
OutcomesFile(pathlib.Path({str(out)!r}), {{}}).write([b"half"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert out.with_name("outcomes.jsonl.partial").read_bytes() == b"half"
    write(out, b"1\n")
    assert out.read_bytes() == b"1\n"


def test_the_next_run_may_begin_when_the_file_has_its_name_though_the_first_has_not_closed_it(out):
    with OutcomesFile(out, {}) as first:
        first.write([b"1\n"])
        first.complete()
        write(out, b"2\n")
    assert out.read_bytes() == b"2\n"


@pytest.mark.slow
def test_runs_that_end_and_begin_at_the_same_time_never_write_one_file_together(out):
    """One may open the partial file just before another completes it: the lock it then gets is on a file of another name."""
    code = f"""
import os, pathlib
from judgeflow.cli.outcomes_file import OutcomesFile
from judgeflow.errors import UsageError
mine, written = str(os.getpid()).encode(), 0
while written < 100:
    try:
        with OutcomesFile(pathlib.Path({str(out)!r}), {{}}) as outcomes:
            outcomes.write([mine])
            outcomes.write([mine])
            assert outcomes.partial.read_bytes() == mine * 2
            outcomes.complete()
            written += 1
    except UsageError:
        pass
"""
    racing = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[1] for process in racing] == [""] * 3
    assert out.read_text() in {str(process.pid) * 2 for process in racing}
    assert not out.with_name("outcomes.jsonl.partial").exists()


def test_a_full_disk_is_told_with_the_file_and_what_to_do(out):
    code = f"""
import pathlib, resource
from judgeflow.cli.outcomes_file import OutcomesFile
from judgeflow.errors import JudgeflowError
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    with OutcomesFile(pathlib.Path({str(out)!r}), {{}}) as outcomes:
        outcomes.write([b"x" * 101])
except JudgeflowError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert f"{out}.partial cannot be written: File too large; " in said
    assert "run the same command again" in said


def test_a_folder_that_vanishes_is_told_when_the_file_should_take_its_name(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with OutcomesFile(folder / "o.jsonl", {}) as outcomes:
        outcomes.write([b"1\n"])
        outcomes.partial.unlink()
        folder.rmdir()
        with pytest.raises(JudgeflowError, match=r"o\.jsonl\.partial cannot be written: No such file or directory"):
            outcomes.complete()
