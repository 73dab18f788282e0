"""A path of this machine as a caller wrote it. Touches no file."""

from pathlib import Path

from ..jobs.home_path import NoSuchHome, expanded
from .client_errors import InvalidInput


def at_home(path: str | Path) -> Path:
    """Put somebody's home directory where a path begins with `~`, as a shell does.

    Raises:
        InvalidInput: there is nobody of that name.
    """
    try:
        return expanded(path)
    except NoSuchHome as error:
        raise InvalidInput(f"cannot find {path}: {error}") from error
