"""A bar on a terminal while rows are under way. Knows how to count, not what."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(num_rows: int, *, visible: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes finished rows and new tokens; it draws on a terminal only."""
    if not visible or not sys.stderr.isatty():
        yield lambda rows, tokens: None
        return
    from rich.console import Console  # a bare GPU box need not have it
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    speed = TextColumn("{task.fields[tokens]:,} tokens")
    columns = (BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("generate", total=num_rows, tokens=0)
        num_tokens = 0

        def advance(rows: int, tokens: int) -> None:
            nonlocal num_tokens
            num_tokens += tokens
            bar.update(task, advance=rows, tokens=num_tokens)

        yield advance
