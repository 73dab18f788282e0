"""A place in a notebook whose HTML can be replaced. Needs no widgets; loads IPython never itself.

Knows nothing of what is shown. Whoever runs in a notebook has IPython loaded already.
"""

import sys
from typing import Any


class NotebookOutput:
    """One output of a cell, which shows the last thing that it was given."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, html: str) -> None:
        """Show this in place of what was there."""
        content = self._display.HTML(html)
        if self._handle is None:
            self._handle = self._display.display(content, display_id=True)
        else:
            self._handle.update(content)


def notebook_output() -> NotebookOutput | None:
    """Give a place to show HTML; None where there is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:  # IPython on a terminal has none
        return None
    from IPython import display  # pyright: ignore[reportMissingImports]  # it is there: see above

    return NotebookOutput(display)
