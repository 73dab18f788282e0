"""What every contender is asked to do. Knows prompts and lengths, no engine.

Runs in each peer's own environment too, so it needs nothing but Python itself.
"""

import random
from dataclasses import dataclass

_LOW_ID, _HIGH_ID = 300, 30_000  # ids that every vocabulary compared here holds


@dataclass(frozen=True)
class Work:
    """Prompts, and how many tokens each is to be answered with: exactly so many, whatever they are.

    Attributes:
        name: "fixed-32", "mixed-64"…
        prompts: token ids.
        lengths: tokens to generate, one entry per prompt.
    """

    name: str
    prompts: list[list[int]]
    lengths: list[int]

    @property
    def num_tokens(self) -> int:
        """Tokens to generate, all rows together: what speeds are told in."""
        return sum(self.lengths)


def kind_of(name: str) -> str:
    """Return "fixed" of "fixed-32"."""
    return name.partition("-")[0]


def make_work(name: str, *, turn: int = 0) -> Work:
    """Make the work called `name`; each turn has other token ids in prompts of the same lengths.

        fixed-N    N prompts of 128 tokens, 64 to generate
        mixed-N    N prompts of 16 to 256 tokens, 8 to 128 to generate
        shared-N   N prompts of 256 tokens, the first 192 the same for all, 32 to generate
        tiny-N     N prompts of 8 tokens, 4 to generate: to warm up, and to see whether a peer works

    Raises:
        ValueError: there is no such work.
    """
    kind, _, number = name.partition("-")
    if kind not in ("fixed", "mixed", "shared", "tiny") or not number.isdigit():
        raise ValueError(f"work must be called fixed-32, mixed-64 or the like, got {name!r}")
    sizes = random.Random(1)  # the lengths are the same in every turn
    ids = random.Random(f"{name}:{turn}")
    num_common = 192 if kind == "shared" else 0
    common = [ids.randint(_LOW_ID, _HIGH_ID) for _ in range(num_common)]
    prompts: list[list[int]] = []
    lengths: list[int] = []
    for _ in range(int(number)):
        match kind:
            case "fixed":
                size, length = 128, 64
            case "mixed":
                size, length = sizes.randint(16, 256), sizes.randint(8, 128)
            case "shared":
                size, length = 256, 32
            case _:
                size, length = 8, 4
        own = [ids.randint(_LOW_ID, _HIGH_ID) for _ in range(size - num_common)]
        prompts.append([*common, *own])
        lengths.append(length)
    return Work(name, prompts, lengths)
