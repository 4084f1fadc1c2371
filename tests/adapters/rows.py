"""What verl gives a reward manager: rows of tensors beside columns of anything, a tokenizer, and a configuration."""

from types import SimpleNamespace

import torch


class Letters:
    """A tokenizer whose tokens are characters; 0 is padding."""

    @staticmethod
    def encode(text):
        return [ord(letter) for letter in text]

    @staticmethod
    def decode(ids, *, skip_special_tokens):
        return "".join(chr(int(each)) for each in ids if int(each) or not skip_special_tokens)


class Rows:
    """What a reward manager reads of verl's DataProto: rows of tensors padded to the left (prompts) and right (responses)."""

    def __init__(self, samples, **columns):
        prompts, responses = ([Letters.encode(each) for each in column] for column in zip(*samples, strict=True))
        before, after = max(map(len, prompts)), max(map(len, responses))
        self.batch = {
            "prompts": torch.tensor([[0] * (before - len(each)) + each for each in prompts]),
            "responses": torch.tensor([each + [0] * (after - len(each)) for each in responses]),
            "attention_mask": torch.tensor(
                [
                    [0] * (before - len(p)) + [1] * len(p) + [1] * len(r) + [0] * (after - len(r))
                    for p, r in zip(prompts, responses, strict=True)
                ]
            ),
        }
        self.columns = columns

    def __getitem__(self, place):
        return SimpleNamespace(
            batch={name: values[place] for name, values in self.batch.items()},
            non_tensor_batch={name: values[place] for name, values in self.columns.items()},
        )

    def row(self, place):
        """One sample as a reward worker gets it."""
        row = Rows.__new__(Rows)
        row.batch = {name: values[place : place + 1] for name, values in self.batch.items()}
        row.columns = {name: values[place : place + 1] for name, values in self.columns.items()}
        return row


class Config(SimpleNamespace):
    """Answers `get` as OmegaConf does."""

    def get(self, name):
        return getattr(self, name, None)


def verl_config(url, n):
    return Config(actor_rollout_ref=SimpleNamespace(rollout=SimpleNamespace(n=n)), judgeflow={"url": url})
