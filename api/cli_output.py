"""How the command line prints: tables for people, JSON lines for programs. Knows no server.

Results go to stdout, everything said about them to stderr, so that a pipe carries data only.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .wording import counted

_SHORT = 60  # characters of a text in a cell
_WHOLE = 40  # columns of a table's first column that are never taken from it
_NARROWEST = 10  # columns that a text which may be cut still has
_GAP = 2  # between columns
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a terminal would obey; not \t and \n


class OutputFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


class Printer:
    """Prints to one pair of streams in one format."""

    def __init__(self, wanted: OutputFormat | None = None) -> None:
        self.out = Console(highlight=False)
        self.err = Console(stderr=True, highlight=False)
        automatic = OutputFormat.TABLE if sys.stdout.isatty() else OutputFormat.JSON
        self.format = wanted or automatic

    @property
    def is_json(self) -> bool:
        """Whether a program reads along."""
        return self.format is OutputFormat.JSON

    @property
    def has_onlooker(self) -> bool:
        """Whether a person may read what is noted, and do something about it."""
        return self.err.file.isatty()

    def json_line(self, data: Mapping[str, Any]) -> None:
        """Print one object on one line."""
        sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something to the person beside the results."""
        self.err.print(harmless(text), markup=False, soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        unbroken: Sequence[str] = (),
        too_long: Literal["fold", "ellipsis"] = "fold",
        longest: int | None = _SHORT,
        spare: Sequence[str] = (),
    ) -> None:
        """Print a table; numbers stand on the right, `unbroken` columns stay on one line.

        The first column is never cut. `spare` columns are left out, one by one, where not all have
        room.
        """
        table = Table(box=None, header_style="bold", pad_edge=False)
        lines = [list(row) for row in rows]
        for column in spare:
            if column in columns and self._needs(columns, lines, unbroken) > self.out.width:
                left_out = list(columns).index(column)
                columns = [each for each in columns if each != column]
                for line in lines:
                    del line[left_out]
        for index, column in enumerate(columns):
            is_number = bool(lines) and all(isinstance(row[index], int | float) for row in lines)
            is_first = index == 0  # what one wants to copy
            longest_id = max((cell(row[0]).cell_len for row in lines), default=0)
            table.add_column(
                column,
                min_width=min(longest_id, _WHOLE) if is_first else None,
                justify="right" if is_number else "left",
                overflow=too_long,
                no_wrap=is_first or column in unbroken,
            )
        for row in lines:
            cells = [cell(value, longest) for value in row]
            for each in cells:
                each.no_wrap = True if too_long == "ellipsis" else None
            table.add_row(*cells)
        self.out.print(table)

    @staticmethod
    def _needs(
        columns: Sequence[str], lines: Sequence[Sequence[Any]], unbroken: Sequence[str]
    ) -> int:
        """Give the width at which no word that must stay whole is cut."""
        needs = 0
        for index, column in enumerate(columns):
            longest = max(len(column), *(cell(line[index]).cell_len for line in lines), 0)
            may_be_cut = index > 0 and column not in unbroken
            needs += (min(longest, _NARROWEST) if may_be_cut else longest) + _GAP
        return needs - 1  # which stands behind the last one

    def heading(self, text: str) -> None:
        """Print a heading with room above it."""
        self.out.print(Text(f"\n{text}", style="bold"))

    def facts(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Print names and values, one pair on a line."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            grid.add_row(name, cell(value, None))
        self.out.print(grid)


def cell(value: Any, longest: int | None = _SHORT) -> Text:
    """Write a value into a table: nothing for None, one line, not too long."""
    if value is None:
        return Text("")
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    text = harmless(" ".join(text.split()))
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return Text(text)


def short_vector(vector: Sequence[float]) -> str:
    """Write how a vector begins, and how long it is."""
    first = ", ".join(f"{number:.3g}" for number in vector[:3])
    return f"[{first}, …] {counted(len(vector), 'number')}"


def harmless(text: str) -> str:
    """Take away what a terminal would obey instead of showing it."""
    return _CONTROL.sub("�", text)
