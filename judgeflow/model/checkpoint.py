"""A scorer on disk: one folder, no pickle.

    judgeflow.json        what it is, how it was trained, hashes of the other files, and the fingerprint over all of it
    model.safetensors     every weight and buffer, the body's included
    backbone/             the body's configuration, as transformers writes it
    tokenizer/            the tokenizer, as transformers writes it

The fingerprint names the exact weights and settings; loading recomputes it, so a damaged file is told from a whole one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from judgeflow.errors import ConfigurationError, ScorerError
from judgeflow.keys import digest
from judgeflow.model.backbone import check_vocabulary
from judgeflow.model.calibration import Calibration
from judgeflow.model.config import ModelConfig
from judgeflow.model.layout import Layout
from judgeflow.model.network import Network
from judgeflow.model.reading import Reader
from judgeflow.model.surface import SURFACE_VERSION

FORMAT = 2
SUMMARY, WEIGHTS, BACKBONE, TOKENIZER = "judgeflow.json", "model.safetensors", "backbone", "tokenizer"
_AGAIN = "copy the scorer again, or train it again"
_REASON_LENGTH = 180


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint as it was found: on the CPU, in single precision, in evaluation mode."""

    network: Network
    reader: Reader
    tokenizer: Any
    calibration: Calibration
    fingerprint: str


def save(folder: Path, network: Network, tokenizer: Any, *, calibration: Calibration, training: Mapping[str, Any]) -> str:
    """Write a checkpoint and return its fingerprint.

    It is written beside `folder` and put in its place when it is whole.  Raises what `check_target` raises, and `ScorerError` for weights
    that are not finite.
    """
    broken = _broken(network.state_dict())
    if broken:
        raise ScorerError(f"the trained {broken} holds NaN or infinity; nothing is written: train again with a smaller learning rate")
    target = check_target(folder)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fingerprint = _write(fresh, network, tokenizer, calibration=calibration, training=training)
        fresh.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    except BaseException:  # a full disk, an impatient user: half a scorer helps nobody
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return fingerprint


def _write(fresh: Path, network: Network, tokenizer: Any, *, calibration: Calibration, training: Mapping[str, Any]) -> str:
    from safetensors.torch import save_file

    save_file({name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}, fresh / WEIGHTS)
    network.encoder.body.config.save_pretrained(fresh / BACKBONE)  # type: ignore[union-attr, operator]  # transformers' configuration
    tokenizer.save_pretrained(fresh / TOKENIZER)
    summary = {
        "format": FORMAT,
        "model": network.config.as_json(),
        "bodies": len(network.encoders),
        "surface": SURFACE_VERSION if network.config.surface else None,
        "attention": network.encoder.attention,
        "calibration": dataclasses.asdict(calibration),
        "training": dict(training),
        "files": _hashes(fresh),
    }
    fingerprint = _fingerprint(summary)
    (fresh / SUMMARY).write_bytes(orjson.dumps(summary | {"fingerprint": fingerprint}, option=orjson.OPT_INDENT_2))
    return fingerprint


def check_target(folder: Path) -> Path:
    """Return the real path that a checkpoint for `folder` goes to; its parent exists then, and can be written.

    Raises `ConfigurationError` if it cannot be written there, or would destroy something else.
    """
    target = folder.resolve()
    if target.exists() and not (target.is_dir() and ((target / SUMMARY).is_file() or not any(target.iterdir()))):
        raise ConfigurationError(f"{folder} exists and is no scorer; name another folder, so that nothing is overwritten")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent):
            return target
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be written: {error.strerror or error}") from None


def read_summary(folder: Path) -> dict[str, Any]:
    """Return judgeflow.json of a checkpoint.  Raises `ConfigurationError` for a folder that is none, or of a newer format."""
    path = folder / SUMMARY
    if not path.is_file():
        raise ConfigurationError(f"{folder}: not a scorer, it has no {SUMMARY}; `judgeflow train PAIRS.jsonl --out {folder}` makes one")
    try:
        summary = orjson.loads(path.read_bytes())
        version = summary["format"]
        whole = version != FORMAT or summary["fingerprint"] == _fingerprint(summary)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: damaged: {error!r}; {_AGAIN}") from None
    if version != FORMAT:
        raise ConfigurationError(f"{path}: format {version!r} is not known to this version of judgeflow, which reads {FORMAT}")
    if not whole:
        raise ConfigurationError(f"{path}: altered after it was written: its fingerprint does not match; train again, or restore the file")
    return dict(summary)


def load(folder: Path) -> Saved:
    """Load a checkpoint.  Raises `ConfigurationError` naming the file that is missing, cut off or altered."""
    summary = read_summary(folder)
    _check_files(folder, summary["files"])
    try:
        model, calibration = ModelConfig.from_json(summary["model"]), Calibration(**summary["calibration"])
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{folder / SUMMARY}: {error}") from None
    if model.surface and summary["surface"] != SURFACE_VERSION:
        raise ConfigurationError(
            f"{folder}: its surface features are of version {summary['surface']}, not {SURFACE_VERSION}; train it again"
        )
    bodies, tokenizer = _bodies(folder, summary["attention"], summary["bodies"])
    layout = Layout(tokenizer, int(model.max_tokens))
    network = Network(bodies, layout.padding, model)
    _load_weights(network, folder / WEIGHTS)
    return Saved(network.eval(), Reader(layout, model), tokenizer, calibration, summary["fingerprint"])


def _bodies(folder: Path, attention: str, count: int) -> tuple[list[Any], Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder / BACKBONE, local_files_only=True)
        bodies = [AutoModel.from_config(config, dtype=torch.float32, attn_implementation=attention) for _ in range(count)]
        tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{folder}: its backbone or tokenizer cannot be built: {str(error).strip().splitlines()[0]}") from None
    check_vocabulary(bodies[0], tokenizer, str(folder))
    return bodies, tokenizer


def _load_weights(network: Network, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split()).removeprefix("Error(s) in loading state_dict for Network: ")
        raise ConfigurationError(f"{path}: these weights do not fit the model: {_shortened(reason)}; {_AGAIN}") from None
    broken = _broken(tensors)
    if broken:
        raise ConfigurationError(f"{path}: {broken} holds NaN or infinity; {_AGAIN}")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _REASON_LENGTH else f"{reason[:_REASON_LENGTH]} ..."


def _broken(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of a tensor that is not all finite, if there is one."""
    return next((name for name, value in tensors.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())), None)


def _check_files(folder: Path, expected: Mapping[str, str]) -> None:
    for name, value in expected.items():
        if not (folder / name).is_file():
            raise ConfigurationError(f"{folder / name}: missing; copy the whole folder of the scorer")
        if _file_hash(folder / name) != value:
            raise ConfigurationError(f"{folder / name}: cut off or altered after training; {_AGAIN}")


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMMARY)
    return {path.relative_to(folder).as_posix(): _file_hash(path) for path in files}


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _fingerprint(summary: Mapping[str, Any]) -> str:
    """The hash over what decides about scores: how long training took does not."""
    return digest("scorer/1", [summary[key] for key in ("format", "model", "attention", "bodies", "surface", "calibration", "files")]).hex()
