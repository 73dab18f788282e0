"""Small jobs for the demo model, composed from word lists, with their truth where there is one.

Knows text and chance: no tensors, no queue, no files. The same generators write what the demo
model is trained on and what it is measured on, so this is also where the line between the two
is drawn: whatever a task asks about belongs to one split for ever, by its hash.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar, get_args

from . import demo_words as words

Kind = Literal["extract", "classify", "add", "story"]
Split = Literal["train", "heldout"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
LABELS: tuple[str, ...] = tuple(words.TICKET_COMPLAINTS)
LARGEST_ADDEND = 99

_Drawn = TypeVar("_Drawn")

_HELDOUT_ONE_IN = 8  # one composition in eight is never trained on


@dataclass(frozen=True, slots=True)
class DemoTask:
    """One small job.

    `answer` is the one right answer, or None where there is no such thing; `example` is what the
    demo model was taught to say, so it equals `answer` wherever there is one.
    """

    kind: Kind
    prompt: str
    answer: str | None
    example: str

    def messages(self) -> list[dict[str, str]]:
        """Give the task as a chat of one user message."""
        return [{"role": "user", "content": self.prompt}]


def split_of(*parts: object) -> Split:
    """Say which split a composition belongs to; a pure function of its parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") % _HELDOUT_ONE_IN == 0 else "train"


def generate(seed: int, split: Split, kinds: Sequence[Kind] = KINDS) -> Iterator[DemoTask]:
    """Yield tasks without end, every kind in turn; the same seed gives the same tasks.

    Raises:
        ValueError: `split` or one of `kinds` is unknown, or `kinds` is empty.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {kinds!r}")
    return _generate(random.Random(f"{split}/{seed}"), split, tuple(kinds))


def load(
    n: int, seed: int = 0, split: Split = "heldout", kinds: Sequence[Kind] = KINDS
) -> list[DemoTask]:
    """Make a list of `n` tasks; see `generate`."""
    return list(islice(generate(seed, split, kinds), n))


def is_correct(task: DemoTask, output: str) -> bool:
    """Compare a model's output with the truth, exactly; for JSON, by value rather than by blanks.

    Raises:
        ValueError: the task is open-ended, so nothing can be right or wrong about it.
    """
    if task.answer is None:
        raise ValueError(f"a {task.kind} task has no right answer; leave it out of the count")
    if task.kind != "extract":
        return output.strip() == task.answer
    try:
        found = json.loads(output)
    except (ValueError, RecursionError):  # the latter from a thousand open brackets
        return False
    # Through text again, so that 3 and 3.0 and True stay different things.
    return json.dumps(found, sort_keys=True) == json.dumps(json.loads(task.answer), sort_keys=True)


def _generate(rng: random.Random, split: Split, kinds: tuple[Kind, ...]) -> Iterator[DemoTask]:
    while True:
        for kind in kinds:
            yield _COMPOSERS[kind](rng, split)


def _compose_extract(rng: random.Random, split: Split) -> DemoTask:
    """An order in prose, wanted as JSON. A customer and all their orders share a split."""
    customer = _draw(rng, split, _customer)
    quantity = rng.randint(2, 99)
    adjective = f"{rng.choice(words.ADJECTIVES)} " if rng.random() < 0.8 else ""
    item = adjective + rng.choice(words.ITEMS)
    city = _city(rng)
    spelled = quantity < len(words.NUMBER_WORDS) and rng.random() < 0.5
    order = rng.choice(words.ORDER_PHRASINGS).format(
        customer=customer,
        quantity=words.NUMBER_WORDS[quantity] if spelled else quantity,
        item=item,
        city=city,
        deadline=rng.choice(words.DEADLINES),
    )
    truth = {"customer": customer, "quantity": quantity, "item": item, "city": city}
    prompt = rng.choice(words.EXTRACT_PHRASINGS).format(order=order[0].upper() + order[1:])
    answer = json.dumps(truth, ensure_ascii=False)
    return DemoTask("extract", prompt, answer, example=answer)


def _compose_classify(rng: random.Random, split: Split) -> DemoTask:
    """A support ticket, wanted as one of `LABELS`."""

    def ticket(rng: random.Random) -> tuple[str, str]:
        label = rng.choice(LABELS)
        patterns = [rng.choice(words.TICKET_COMPLAINTS[label])]
        if rng.random() < 0.8:
            patterns.insert(0, rng.choice(words.TICKET_OPENINGS))
        if rng.random() < 0.8:
            patterns.append(rng.choice(words.TICKET_CLOSINGS))
        text = " ".join(patterns).format(
            name=rng.choice(words.FIRST_NAMES),
            product=rng.choice(words.TICKET_PRODUCTS),
            days=rng.randint(2, 30),
            amount=rng.randint(5, 500),
            reference=rng.randint(1000, 9999),
        )
        return label, text

    label, text = _draw(rng, split, ticket)
    prompt = rng.choice(words.TICKET_PHRASINGS).format(ticket=text)
    return DemoTask("classify", prompt, label, example=label)


def _compose_add(rng: random.Random, split: Split) -> DemoTask:
    """A sum of two numbers. A pair belongs to one split, whichever number comes first."""

    def pair(rng: random.Random) -> tuple[int, int]:
        first, second = (rng.randint(0, LARGEST_ADDEND) for _ in range(2))
        return min(first, second), max(first, second)

    a, b = _draw(rng, split, pair)
    if rng.random() < 0.5:
        a, b = b, a
    prompt = rng.choice(words.SUM_PHRASINGS).format(a=a, b=b)
    return DemoTask("add", prompt, str(a + b), example=str(a + b))


def _compose_story(rng: random.Random, split: Split) -> DemoTask:
    """A wish for a story, which has no right answer."""

    def hero(rng: random.Random) -> tuple[str, str, str]:
        name = rng.choice(words.FIRST_NAMES) if rng.random() < 0.5 else _made_up(rng)
        return name, rng.choice(words.ANIMALS), rng.choice(words.PLACES)

    name, animal, place = _draw(rng, split, hero)
    cast = {
        "name": name,
        "animal": animal,
        "place": place,
        "treasure": rng.choice(words.TREASURES),
        "helper": rng.choice([other for other in words.ANIMALS if other != animal]),
    }
    story = " ".join(rng.choice(patterns).format(**cast) for patterns in words.STORY_PARTS)
    prompt = rng.choice(words.STORY_PHRASINGS).format(**cast)
    return DemoTask("story", _with_right_articles(prompt), None, _with_right_articles(story))


def _customer(rng: random.Random) -> str:
    """A full name, half of the time with made-up parts, so that it has to be copied."""
    first = rng.choice(words.FIRST_NAMES) if rng.random() < 0.5 else _made_up(rng)
    last = rng.choice(words.LAST_NAMES) if rng.random() < 0.5 else _made_up(rng)
    return f"{first} {last}"


def _city(rng: random.Random) -> str:
    """A city: three in four exist."""
    if rng.random() < 0.75:
        return rng.choice(words.CITIES)
    stem = rng.choice(words.CITY_SYLLABLES) + rng.choice(words.CITY_SYLLABLES)
    return (stem + rng.choice(words.CITY_ENDINGS)).capitalize()


def _made_up(rng: random.Random) -> str:
    """A name that nobody has, of two or three syllables."""
    return "".join(rng.choices(words.NAME_SYLLABLES, k=rng.randint(2, 3))).capitalize()


def _with_right_articles(text: str) -> str:
    """Say "an owl" where the patterns said "a owl"."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def _draw(rng: random.Random, split: Split, make: Callable[[random.Random], _Drawn]) -> _Drawn:
    """Draw until the composition falls into the wanted split."""
    while split_of(drawn := make(rng)) != split:
        pass
    return drawn


_COMPOSERS: dict[Kind, Callable[[random.Random, Split], DemoTask]] = {
    "extract": _compose_extract,
    "classify": _compose_classify,
    "add": _compose_add,
    "story": _compose_story,
}
