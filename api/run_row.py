"""A row of a run, as programs read it. Knows which columns runs add, and no transport.

`records` has the rows of jobs, which tell how one answer went; what stands in this one, several
steps have made.
"""

from collections.abc import Mapping
from typing import Any

_TOLD_IN = {"__meta": "error_code", "__error": "code"}  # which field, of what is beside a column


class RunRow(dict[str, Any]):
    """One landed row of a run: what its inputs and its steps have given it, by column."""

    @property
    def id(self) -> str:
        """Its `row_id`, by which `run.row` tells its history."""
        return self["row_id"]

    @property
    def parent_id(self) -> str | None:
        """The row that it was made from, in a step that makes several of one."""
        return self.get("parent_id")

    @property
    def ok(self) -> bool:
        """Whether it lacks nothing because a step failed, as far as its columns tell."""
        return not self.errors

    @property
    def errors(self) -> dict[str, str]:
        """Why it lacks values: error codes, by the columns that could not be made.

        Steps that ask tell it in `<step>__meta`, wherever that is selected; other steps in
        `<step>__error`, among their own rows only. `run.errors()` yields all that went wrong.
        """
        return {
            name.removesuffix(mark): facts[code]
            for mark, code in _TOLD_IN.items()
            for name, facts in self.items()
            if name.endswith(mark) and self.get(name.removesuffix(mark)) is None
            if isinstance(facts, Mapping) and facts.get(code) is not None
        }
