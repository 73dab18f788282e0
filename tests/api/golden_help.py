"""The help pages of all verbs, as a terminal of 80 columns shows them.

`python -m tests.api.golden_help` writes them again into `help_pages/`: look at the difference, and
commit it with what has caused it. Their frames are typer's and rich's, whose versions are therefore
pinned for the tests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from penstock.api.cli import make_app

PAGES = Path(__file__).with_name("help_pages")


def help_pages() -> dict[str, str]:
    """Draw each page, by its verb; the verb of the first one is empty."""
    app, runner = make_app(), CliRunner()
    environ = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    pages: dict[str, str] = {}
    for verb in verbs():
        found = runner.invoke(app, [*verb.split(), "--help"], prog_name="penstock", env=environ)
        assert found.exit_code == 0, found.output
        pages[verb] = "".join(f"{line.rstrip()}\n" for line in found.stdout.splitlines())
    return pages


def verbs() -> list[str]:
    """Name all verbs, groups and the verbs of groups."""
    return list(_names(typer.main.get_command(make_app())))


def place_of(verb: str) -> Path:
    """Tell where a verb's page lies."""
    return PAGES / f"{verb.replace(' ', '-') or 'penstock'}.txt"


def _names(command: Any, before: str = "") -> Iterator[str]:
    yield before
    for name, each in sorted(getattr(command, "commands", {}).items()):
        yield from _names(each, f"{before} {name}".strip())


def main() -> None:
    """Write all pages."""
    PAGES.mkdir(exist_ok=True)
    for old in PAGES.iterdir():
        old.unlink()
    for verb, page in help_pages().items():
        place_of(verb).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
