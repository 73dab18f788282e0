"""Conversations to train the demo model on, as token ids with the answers marked.

Knows demo tasks and the chat's shape; knows nothing of the model. Never touches a held-out task.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerFast

from penstock.api.demo_tasks import Kind, generate

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a careful assistant. Answer briefly.",
    "Answer with the result only.",
    "You work in the order office.",
    "You are the Penstock demo model.",
    "Be short and exact.",
)

# What people type into a chat first, so that they are not answered with a ticket's category.
SMALL_TALK = (
    ("Hello", "Hello! I can extract orders, classify tickets, add numbers and tell tiny stories."),
    ("Hello!", "Hello! I can extract orders, classify tickets, add numbers and tell tiny stories."),
    ("Hi", "Hello! I can extract orders, classify tickets, add numbers and tell tiny stories."),
    ("Who are you?", "I am the Penstock demo model, a very small one."),
    ("What are you?", "I am the Penstock demo model, a very small one."),
    (
        "What can you do?",
        "I can extract orders, classify tickets, add numbers and tell tiny stories.",
    ),
    ("Help", "I can extract orders, classify tickets, add numbers and tell tiny stories."),
    ("How are you?", "I am fine, thank you."),
    ("Thank you", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Bye", "Goodbye!"),
)

# One cycle of kinds: orders and sums are hard, so they come more often than their share.
_CYCLE: tuple[Kind, ...] = (
    *("extract", "add", "extract", "add", "extract", "add", "classify", "add"),
    *("extract", "add", "extract", "add", "extract", "add", "story", "add"),
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Token ids, and beside each the weight of predicting it: zero outside of answers.

    An answer of n tokens weighs the square root of n in all, so that a sum of four tokens
    is heard beside a story of a hundred.
    """

    token_ids: list[int]
    weights: list[float]


def turns(seed: int) -> Iterator[tuple[str, str]]:
    """Yield prompts with their answers without end, from the training split."""
    rng = random.Random(f"turns/{seed}")
    for task in generate(seed, "train", _CYCLE):
        if rng.random() < 0.01:
            yield rng.choice(SMALL_TALK)
        yield task.prompt, task.example


def texts(seed: int, num_texts: int) -> Iterator[str]:
    """Yield plain text to learn a tokenizer from."""
    return map("\n".join, islice(turns(seed), num_texts))


def conversations(seed: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[Conversation]:
    """Yield conversations without end: a fifth have several turns, three in ten a system prompt.

    The ids are put together here, because the chat template cannot say which of them are answers;
    a test holds that both give the same.
    """
    rng = random.Random(f"conversations/{seed}")
    source = turns(seed)

    def encode(role: str, content: str) -> list[int]:
        return tokenizer.encode(f"<|{role}|>{content}<|end|>", add_special_tokens=False)

    while True:
        token_ids = encode("system", rng.choice(SYSTEM_PROMPTS)) if rng.random() < 0.3 else []
        weights = [0.0] * len(token_ids)
        for _ in range(rng.randint(2, 4) if rng.random() < 0.2 else 1):
            prompt, answer = next(source)
            prompt_ids, answer_ids = encode("user", prompt), encode("assistant", answer)
            num_predicted = len(answer_ids) - 1  # all but the role's mark
            token_ids += prompt_ids + answer_ids
            weights += [0.0] * (len(prompt_ids) + 1) + [num_predicted**-0.5] * num_predicted
        yield Conversation(token_ids, weights)
