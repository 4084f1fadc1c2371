from __future__ import annotations
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
import torch
from torch import nn
from judgeflow.errors import ConfigurationError
FEWEST_TOKENS = 2


def load_backbone(source: str) -> tuple[nn.Module, Any]:
    """Return the body and the tokenizer of a local folder or a hub name.  Raises `ConfigurationError`."""
    from transformers import AutoModel, AutoTokenizer

    local = Path(source).exists()
    if local and not (Path(source) / "config.json").is_file():
        raise ConfigurationError(f"--backbone {source}: the folder has no config.json; name a folder that save_pretrained has written")
    try:
        with _without_bars():
            body, found = AutoModel.from_pretrained(source, local_files_only=local, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # whatever transformers or safetensors raise for a folder that is not whole
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(f"--backbone {source}: cannot be loaded as a transformers model: {reason}") from None
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ConfigurationError(f"--backbone {source}: its weights lack {missing[0]} and {len(missing) - 1} more; copy the folder again")
    if len(tokenizer) - len(set(tokenizer.all_special_ids)) < FEWEST_TOKENS:
        raise ConfigurationError(f"--backbone {source}: has no tokenizer of its own; save the model's tokenizer into the same folder")
    check_vocabulary(body, tokenizer, source)
    return body, tokenizer


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def check_vocabulary(body: nn.Module, tokenizer: Any, source: str) -> None:
    """Raise `ConfigurationError` for a tokenizer that makes ids which the body has no embedding for."""
    rows = body.get_input_embeddings().num_embeddings  # type: ignore[operator]  # a PreTrainedModel's
    if len(tokenizer) > rows:
        raise ConfigurationError(
            f"{source}: the tokenizer knows {len(tokenizer)} tokens and the model {rows}; they do not belong together: "
            f"take both from the same folder"
        )
