"""Which data directory a job table is made from, so that no other is taken for it.

Whoever takes jobs marks the directory with an id, and the keeper that leads tells it to Redis. A
process that finds another mark, or none, looks at another disk, or at the empty place where one
should be mounted: what it does not find there is not gone.

$data/installation    an id, written once
"""

import secrets
from pathlib import Path

from .durable import create_file, make_directories
from .job_table import JobTable
from .settings import Settings


def mark_installation(data_dir: Path) -> str:
    """Give a data directory its id, unless it has one; returns the one that it has.

    Raises:
        StorageFull: there is no room.
    """
    path = _path(data_dir)
    if not path.exists():
        make_directories(data_dir)
        create_file(path, secrets.token_hex(16).encode())
    return installation_id(data_dir)


def installation_id(data_dir: Path) -> str:
    """Read the id of a data directory; "" if it has none, or it is not there."""
    try:
        return _path(data_dir).read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def is_elsewhere(settings: Settings, table: JobTable) -> bool:
    """Tell whether a job table is made from another data directory than the one found here."""
    home = table.redis.get(table.keys.installation)
    return home is not None and home != installation_id(settings.data_dir)


def whereabouts(settings: Settings) -> str:
    """Say what is wrong with a directory that is not the queue's, and what to do."""
    return (
        f"{settings.data_dir} is not the data directory of this queue: is PENSTOCK_DATA right, and "
        "the disk mounted? If the queue shall begin anew with it, delete the Redis key "
        f"{settings.namespace}:installation"
    )


def _path(data_dir: Path) -> Path:
    return data_dir / "installation"
