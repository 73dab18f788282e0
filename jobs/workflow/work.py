"""The pieces of work that a run is made of, and what comes of each. Shapes only.

They travel as msgpack between the advancer and the process that does them (see `bench`).
"""

from typing import TypeAlias

import msgspec

from .asks import Ask
from .orders.orders import Order
from .workshop.shard_report import ShardReport


class Compute(msgspec.Struct, frozen=True, tag="compute"):
    """Make a shard of a local step from that of its sources."""

    run_id: str
    step_id: str
    shard: int


class AskOrSettle(msgspec.Struct, frozen=True, tag="ask"):
    """Find what a shard of a step has to ask now, or make it, if it has all its answers.

    `orders` are those that have landed, each with the share of this shard alone. `revisions` are
    those of the step's models that are known: of the others no earlier answer is used.
    """

    run_id: str
    step_id: str
    shard: int
    orders: tuple[Order, ...] = ()
    revisions: dict[str, str] = {}


class Gather(msgspec.Struct, frozen=True, tag="gather"):
    """Make all shards of a step that needs all rows; `num_shards` of each source, in order."""

    run_id: str
    step_id: str
    num_shards: tuple[int, ...]


class Emit(msgspec.Struct, frozen=True, tag="emit"):
    """Land a shard of the output."""

    run_id: str
    shard: int


Work: TypeAlias = Compute | AskOrSettle | Gather | Emit


class Made(msgspec.Struct, frozen=True, tag="made"):
    """A shard stands."""

    report: ShardReport


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """A shard cannot be made before these are answered."""

    asks: tuple[Ask, ...]


class Gathered(msgspec.Struct, frozen=True, tag="gathered"):
    """All shards of a step stand."""

    num_shards: int
    report: ShardReport


class Missing(msgspec.Struct, frozen=True, tag="missing"):
    """A shard that should be there cannot be read. It is out of the way, to be made again."""

    step_id: str
    shard: int
    message: str


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """It cannot be done. `is_lasting`: nor would it be the next time."""

    message: str
    is_lasting: bool


Outcome: TypeAlias = Made | Wanted | Gathered | Missing | Broken
