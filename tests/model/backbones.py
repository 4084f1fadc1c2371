"""Small bodies with random weights, of the families that users have, saved as they save them."""

from __future__ import annotations

import transformers as t

from judgeflow.model.scratch import character_tokenizer, small_bert

TOKENIZER = character_tokenizer(["abcdefghijklmnopqrstuvwxyz :\n,.Response12<|_>[]/"], 64)
SIZE = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PLACES = {"max_position_embeddings": 80}

CHATML = (
    "{% for m in messages %}{{ '<|s|>' + m['role'] + '\n' + m['content'] + '<|e|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|s|>assistant\n' }}{% endif %}"
)


def llama_config():
    return t.LlamaConfig(**SIZE, **PLACES, pad_token_id=0)


FAMILIES = {
    "bert": lambda: t.BertModel(t.BertConfig(**SIZE, **PLACES)),
    "roberta": lambda: t.RobertaModel(t.RobertaConfig(**SIZE, **PLACES, pad_token_id=0)),
    "distilbert": lambda: t.DistilBertModel(t.DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=2, hidden_dim=32)),
    "electra": lambda: t.ElectraModel(t.ElectraConfig(**SIZE, **PLACES, embedding_size=16)),
    "llama": lambda: t.LlamaModel(llama_config()),
    "qwen2": lambda: t.Qwen2Model(t.Qwen2Config(**SIZE, **PLACES, num_key_value_heads=2)),
    "gemma": lambda: t.GemmaModel(t.GemmaConfig(**SIZE, **PLACES, num_key_value_heads=1, head_dim=16)),
    "gpt2": lambda: t.GPT2Model(t.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, n_positions=80)),
    "bert-reward": lambda: t.BertForSequenceClassification(t.BertConfig(**SIZE, **PLACES, num_labels=1)),
    "llama-reward": lambda: t.LlamaForSequenceClassification(t.LlamaConfig(**SIZE, **PLACES, num_labels=1, pad_token_id=0)),
}


def save(name, folder, tokenizer=TOKENIZER):
    """Write a body of a family and a tokenizer into `folder`, and return it."""
    FAMILIES[name]().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat_tokenizer(template=CHATML):
    """A tokenizer as chat models have it: template and special tokens, no [CLS] or [SEP], no padding token."""
    tokenizer = character_tokenizer(["abcdefghijklmnopqrstuvwxyz :\n,.Response12<|_>[]/é"], 64)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|s|>", "<|e|>"], "eos_token": "<|e|>"})
    tokenizer.cls_token = tokenizer.sep_token = tokenizer.pad_token = None
    tokenizer.chat_template = template
    return tokenizer


__all__ = ["CHATML", "FAMILIES", "TOKENIZER", "chat_tokenizer", "save", "small_bert"]
