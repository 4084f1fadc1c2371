"""Small sets in the shapes that the benchmarks are published in, with records of our own."""

import json

DOMAINS = ("chat", "code", "math", "safety-refuse", "safety-response")


def rewardbench(number, subset="alpacaeval-easy", prompt=None):
    return {
        "prompt": prompt or f"What is {number} + {number}?",
        "chosen": f"It is {2 * number}.",
        "chosen_model": "human",
        "rejected": f"It is {2 * number + 1}.",
        "rejected_model": "parrot",
        "subset": subset,
        "id": number,
    }


def rewardbench2(number, correct=1):
    return {
        "id": f"focus:{number}",
        "prompt": f"Name a number above {number}.",
        "chosen": [f"{number + 1 + k} is one." for k in range(correct)],
        "rejected": [f"{number - 1 - k} is one." for k in range(3)],
        "num_correct": correct,
        "num_incorrect": 3,
        "total_completions": correct + 3,
        "subset": "Focus" if correct == 1 else "Ties",
    }


def rm_bench(number, domain="chat"):
    dressed = ("{}", "Added up, that makes {}.", "**{}** is the *sum*.")
    return {
        "id": f"{domain}/{number}",
        "prompt": f"{domain}: what is {number} + {number}?",
        "chosen": [text.format(2 * number) for text in dressed],
        "rejected": [text.format(2 * number + 1) for text in dressed],
        "domain": domain,
    }


def judgebench(number, label="A>B", source="mmlu-pro-math"):
    return {
        "pair_id": f"pair-{number}",
        "original_id": str(number // 2),
        "source": source,
        "question": f"Is {number} even?",
        "response_model": "parrot",
        "response_A": f"Response A of {number}.",
        "response_B": f"Response B of {number}.",
        "label": label,
    }


def preference(number):
    question = {"role": "user", "content": f"Say {number}."}
    return {
        "chosen": [question, {"role": "assistant", "content": f"{number}"}],
        "rejected": [question, {"role": "assistant", "content": "No."}],
        "score_chosen": 9.0,
    }


def write_lines(path, records):
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def write_array(path, records):
    path.write_text(json.dumps(records, indent=2))
    return path
