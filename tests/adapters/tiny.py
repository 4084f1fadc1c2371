"""A tiny policy for TRL's trainers, what it is asked, and what the judge prefers, also for programs that run as ranks of a training."""

WORDS = ["<pad>", "<end>", "<unknown>", "say", *"abcdefgh"]
PROMPTS = [f"say {letter}" for letter in "abcdefgh"]
MARGIN = 2.0


def count(prompt, completion):
    return completion.count(prompt.strip()[-1])


def prefer(prompt, first, second):
    """What the judge prefers: whoever says the letter more often."""
    lead = count(prompt, first) - count(prompt, second)
    return MARGIN * ((lead > 0) - (lead < 0))


def rule(shown):
    return round(prefer(shown.prompt, shown.response_a, shown.response_b) / MARGIN)


def new_policy():
    """A model with random weights, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unknown>"))
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    torch.manual_seed(0)
    shape = {"n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), **shape)), tokenizer


def settings(folder, **more):
    """What all trainers are told."""
    return {
        "output_dir": str(folder / "trainer"),
        "max_steps": 3,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": [],
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        **more,
    }


def text(value):
    return value if isinstance(value, str) else value[-1]["content"]
