"""One line that must not go missing unnoticed. Facts only; `broken_copy` takes it out.

Add one to the files named `*_safeguards.py` whenever a line is written whose absence would be
silent: wrong tokens, another tenant's context, a row that fails with its neighbour.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Safeguard:
    """One line, what stands in its place when it is taken out, and the tests that must notice.

    `line` stands once in its file. `without` is what is left of it, and must still run.
    """

    name: str
    file: str
    line: str
    without: str
    tests: tuple[str, ...]
