"""Bodies that others have trained: encoders, decoders, and the bodies of reward models, from a local folder or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from judgeflow.errors import ConfigurationError

FEWEST_TOKENS = 2
"""A tokenizer that knows less than two tokens beside its special ones was made up for a folder that has none."""


def load_backbone(source: str) -> tuple[nn.Module, Any]:
    """Return the body and the tokenizer of a local folder or a hub name, in single precision.

    A model with a head (a reward model saved as AutoModelForSequenceClassification, say) gives its body.  Raises `ConfigurationError`.
    """
    from transformers import AutoModel, AutoTokenizer

    local = Path(source).exists()
    if not local and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise ConfigurationError(f"--backbone {source}: there is no such folder")
    if local and not (Path(source) / "config.json").is_file():
        raise ConfigurationError(f"--backbone {source}: the folder has no config.json; name a folder that save_pretrained has written")
    try:
        with _quietly():
            body, found = AutoModel.from_pretrained(source, local_files_only=local, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # whatever transformers or safetensors raise for a folder that is not whole
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(f"--backbone {source}: cannot be loaded as a transformers model: {reason}") from None
    _check(body, tokenizer, [name for name in found["missing_keys"] if not name.startswith("pooler.")], source)
    return body, tokenizer


def _check(body: Any, tokenizer: Any, missing: list[str], source: str) -> None:
    if body.config.is_encoder_decoder:
        raise ConfigurationError(f"--backbone {source}: {body.config.model_type} is an encoder-decoder; name an encoder or a decoder")
    if missing:
        raise ConfigurationError(f"--backbone {source}: its weights lack {min(missing)} and {len(missing) - 1} more; copy the folder again")
    if len(tokenizer) - len(set(tokenizer.all_special_ids)) < FEWEST_TOKENS:
        raise ConfigurationError(f"--backbone {source}: has no tokenizer of its own; save the model's tokenizer into the same folder")
    check_vocabulary(body, tokenizer, source)
    for name, weight in body.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise ConfigurationError(f"--backbone {source}: its {name} holds NaN or infinity; copy the folder again, or take another")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from drawing progress bars, and from reporting the weights of a head that is left out on purpose."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def check_vocabulary(body: nn.Module, tokenizer: Any, source: str) -> None:
    """Raise `ConfigurationError` for a tokenizer that makes ids which the body has no embedding for."""
    rows = body.get_input_embeddings().num_embeddings  # type: ignore[operator]  # a PreTrainedModel's
    if len(tokenizer) > rows:
        raise ConfigurationError(
            f"{source}: the tokenizer knows {len(tokenizer)} tokens and the model {rows}; they do not belong together: "
            f"take both from the same folder"
        )


def with_lora(body: nn.Module, rank: int, *, alpha: float | None = None, dropout: float = 0.0) -> nn.Module:
    """Put low-rank adapters on a body's linear layers, so that only they can be trained (Hu et al. 2022); return the body.

    They are scaled by `alpha` / `rank`; `alpha` is twice the rank by default.  `dropout` is the probability for their inputs.
    Raises `ConfigurationError` for impossible values, and where peft is not installed.
    """
    scale = 2 * rank if alpha is None else alpha
    if rank < 1 or scale <= 0 or not 0 <= dropout < 1:
        raise ConfigurationError(
            f"LoRA with rank {rank}, alpha {scale} and dropout {dropout}: a rank of at least 1, a positive alpha "
            f"and a dropout from 0 to less than 1 are expected"
        )
    try:
        import peft
    except ImportError:
        raise ConfigurationError('LoRA needs peft; install it with: pip install "judgeflow[lora]"') from None
    from transformers.pytorch_utils import Conv1D

    config = peft.LoraConfig(
        r=rank,
        lora_alpha=scale,  # type: ignore[arg-type]  # peft divides it by the rank, and takes any number
        lora_dropout=dropout,
        target_modules=[name for name, module in body.named_modules() if isinstance(module, nn.Linear | Conv1D) and _counts(name)],
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in body.modules()),  # GPT-2 keeps its weights transposed
    )
    peft.inject_adapter_in_model(config, body)
    return body


def _counts(name: str) -> bool:
    """Whether a layer has a part in the last hidden states; BERT's pooler stands behind them."""
    return "pooler" not in name.split(".")


def merge_lora(body: nn.Module) -> nn.Module:
    """Fold a body's adapters into its weights, all of which can be trained again; return the body, with nothing of peft left."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in body.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(body.get_submodule(parent), last, module.get_base_layer())
    return body.requires_grad_(True)
