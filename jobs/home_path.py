"""Paths as people write them, with `~` for a home directory. Touches no file."""

from pathlib import Path


class NoSuchHome(ValueError):
    """A path begins in the home directory of somebody whom this machine does not know."""


def expanded(path: str | Path) -> Path:
    """Put somebody's home directory where a path begins with `~`, as a shell does.

    Raises:
        NoSuchHome: there is nobody of that name; the message says what to write instead.
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as error:  # the latter of a name with a NUL in it
        raise NoSuchHome(
            f"no home directory is known of {Path(path).parts[0]}; write the path in full, or "
            f"./{path} if it is called so"
        ) from error
