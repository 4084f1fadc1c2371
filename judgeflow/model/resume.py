"""Training that goes on after it was killed: its state, in a hidden folder beside the scorer that it will become.

    state.json             identity of the run, where it stood, name and hash of the other file
    state-M-N.safetensors  weights that are trained, AdamW's moments, the best weights so far, torch's random state

A state is written under a new name first, and counts once state.json names it: whatever a kill interrupts, the state before is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from torch import Tensor, nn

from judgeflow.errors import UsageError
from judgeflow.keys import digest, prompt_body
from judgeflow.model.config import ModelConfig, TrainingConfig
from judgeflow.model.reading import Reading
from judgeflow.types import Pair

_STATE = "state.json"
_LARGEST_SHARE = 0.05
_SAMPLED_WEIGHTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run stood after `step` steps of `member`, and the tensors that go with it.

    `finished` has the numbers of steps of the members before; `best_loss` (infinite before the first evaluation) and `stale`
    (evaluations since) are the early stop's.
    """

    member: int
    step: int
    finished: Sequence[int]
    best_loss: float
    stale: int
    tensors: Mapping[str, Tensor] = field(repr=False)


class UnusableState(Exception):
    """Why a state cannot be continued from; it never leaves this package."""


class OtherRun(UnusableState):
    """The state is whole, and another run's."""


class Keeper:
    """Keeps the state of the run `identity` in `folder`, at most every `every_s` seconds and so that keeping takes little of the time.

    Without a folder nothing is kept.  Changed by `keep` only: when the last state was kept, and how long that took.
    """

    def __init__(self, folder: Path | None, identity: str, every_s: float) -> None:
        self.folder = folder
        self._identity = identity
        self._every_s = every_s
        self._last = time.monotonic()
        self._took = 0.0

    def due(self) -> bool:
        """Whether it is time to keep a state."""
        wait = max(self._every_s, self._took / _LARGEST_SHARE)
        return self.folder is not None and time.monotonic() - self._last >= wait

    def keep(self, state: State) -> None:
        """Write a state in the place of the one before.  Raises `UsageError` if it cannot be written."""
        if self.folder is None:
            return
        started = time.monotonic()
        try:
            self._write(self.folder, state)
        except OSError as error:
            raise UsageError(f"{self.folder}: the state of training cannot be written: {error.strerror or error}") from None
        self._last = time.monotonic()
        self._took = self._last - started if self._every_s else 0.0

    def _write(self, folder: Path, state: State) -> None:
        from safetensors.torch import save_file

        folder.mkdir(exist_ok=True)
        path = folder / f"state-{state.member}-{state.step}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors.items()}, path)
        about = {entry.name: getattr(state, entry.name) for entry in dataclasses.fields(state) if entry.name != "tensors"}
        about |= {"identity": self._identity, "file": path.name, "hash": _file_hash(path)}
        if about["best_loss"] == float("inf"):
            about["best_loss"] = None
        write_whole(folder / _STATE, orjson.dumps(about))
        for old in folder.glob("state-*.safetensors"):
            if old != path:
                old.unlink()

    def find(self) -> State | None:
        """Return the state that was kept; None without one.  Raises `UnusableState` for a damaged one, and for another run's."""
        if self.folder is None or not (self.folder / _STATE).is_file():
            return None
        try:
            about = orjson.loads((self.folder / _STATE).read_bytes())
            if about["identity"] != self._identity:
                raise OtherRun("it belongs to other pairs, settings or another backbone")
            return self._read(self.folder / about["file"], about)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnusableState(f"it is damaged: {error!r}") from None

    @staticmethod
    def _read(path: Path, about: Mapping[str, Any]) -> State:
        from safetensors.torch import load_file

        if _file_hash(path) != about["hash"]:
            raise UnusableState(f"it is damaged: {path.name} was cut off or altered")
        best_loss = float("inf") if about["best_loss"] is None else float(about["best_loss"])
        finished = [int(steps) for steps in about["finished"]]
        return State(
            member=int(about["member"]),
            step=int(about["step"]),
            finished=finished,
            best_loss=best_loss,
            stale=int(about["stale"]),
            tensors=load_file(path),
        )


def state_folder(out: Path) -> Path:
    """Return where the state of a run is kept that will write its scorer to `out`."""
    target = out.resolve()
    return target.parent / f".{target.name}.training"


def forget(folder: Path) -> None:
    """Remove the state of a run."""
    shutil.rmtree(folder, ignore_errors=True)


def identity_of(
    pairs: Sequence[Pair],
    reading: Reading,
    *,
    settings: TrainingConfig,
    model: ModelConfig,
    more: Sequence[Any],
    bodies: Sequence[nn.Module],
) -> str:
    """Return what two runs share only if one can go on where the other stopped; `more` is JSON.

    `reading` is what tokenizer, template and surface features have made of the pairs.
    """
    content = digest("training-pairs/1", [_content(pair) for pair in pairs]).hex()
    weights = [_weights_hash(body) for body in bodies]
    return digest("training/1", [content, _reading_hash(reading), dataclasses.asdict(settings), model.as_json(), more, weights]).hex()


def _reading_hash(reading: Reading) -> str:
    state = hashlib.blake2b(reading.surface.numpy().tobytes(), digest_size=16)
    for row in reading.rows:
        state.update(f"{len(row)}:{row.prompt}:".encode())
        state.update(row.ids)
    return state.hexdigest()


def _content(pair: Pair) -> list[Any]:
    return [prompt_body(pair.prompt), pair.response_a, pair.response_b, pair.label, pair.metadata.get("strength")]


def _weights_hash(body: nn.Module) -> str:
    """The hash over a body's configuration and the beginning of every weight: others under the same name are noticed, at no cost."""
    state = hashlib.blake2b(str(body.config.to_json_string()).encode(), digest_size=16)  # type: ignore[union-attr, operator]
    for name, weight in body.named_parameters():
        start = weight.detach().flatten()[:_SAMPLED_WEIGHTS].float().cpu()
        state.update(f"{name}:{tuple(weight.shape)}:".encode())
        state.update(start.numpy().tobytes())
    return state.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it is there in whole, or as it was before."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
