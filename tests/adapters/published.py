"""Small sets in the shapes that the benchmarks are published in, with records of our own."""

import gzip
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


def helpsteer2(number, strength=-2, split="train"):
    return {
        "split": split,
        "prompt": f"Is {number} even?",
        "response_1": f"{number} is even.",
        "response_2": f"{number} is odd.",
        "preference_strength": strength,
        "preference_statement": "@Response 1 is better than @Response 2.",
        "preference_elaboration": "Half of it is whole.",
        "three_most_similar_preferences": [{"preference": strength}],
        "all_preferences_unprocessed": [{"preference": strength}, {"preference": 1}],
    }


def ultrafeedback(number, scores=(8.5, 6.0)):
    question = {"content": f"Say {number}.", "role": "user"}
    chosen = [question, {"content": f"{number}", "role": "assistant"}]
    return {
        "prompt": f"Say {number}.",
        "prompt_id": f"hash-{number}",
        "chosen": chosen,
        "rejected": [question, {"content": "No.", "role": "assistant"}],
        "messages": chosen,
        "score_chosen": scores[0],
        "score_rejected": scores[1],
    }


def argilla(number):
    return {
        "source": "evol_instruct",
        "instruction": f"Say {number}.",
        "chosen_response": f"{number}",
        "rejected_response": "No.",
        "chosen_avg_rating": 4.75,
        "rejected_avg_rating": 2.0,
        "chosen_model": "gpt-4",
    }


def argilla_cleaned(number):
    record = ultrafeedback(number)
    kept = {key: record[key] for key in ("prompt", "chosen", "rejected")}
    about = {"chosen-rating": 5.0, "chosen-model": "gpt-4", "rejected-rating": 3.0, "rejected-model": "parrot", "source": "sharegpt"}
    return kept | about


def hh_rlhf(number, answers=("yes", "no")):
    before = f"\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Is {number} a number?\n\nAssistant:"
    return {side: f"{before} {answer}" for side, answer in zip(("chosen", "rejected"), answers, strict=True)}


def write_lines(path, records):
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as stream:
        stream.writelines(f"{json.dumps(record)}\n" for record in records)
    return path


def write_array(path, records):
    path.write_text(json.dumps(records, indent=2))
    return path
