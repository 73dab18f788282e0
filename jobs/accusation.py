"""Who is blamed when an engine process dies. Knows the traces on disk, no Redis and no engine."""

from collections.abc import Mapping
from pathlib import Path

from .engine_process import Loss
from .journal import was_begun
from .model import ShardRef
from .suspects import Suspects


def accuse(jobs_dir: Path, attempts: Mapping[ShardRef, int], loss: Loss, *, is_proof: bool) -> None:
    """Note the crash against the shards that may have caused it.

    Shards of which no row had come to the engine are innocent; so are all others while suspects run
    by themselves. `attempts` are the shards that the process was to run.
    """
    begun = [
        Suspects(jobs_dir, ref)
        for ref, attempt in attempts.items()
        if was_begun(jobs_dir, ref, attempt, loss.process)
    ]
    for shard in [shard for shard in begun if shard.is_alone] or begun:
        shard.note_crash(str(loss), is_proof=is_proof)
