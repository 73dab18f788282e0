"""Who reads `penstock` through a pipe may leave: that is no trouble, and nothing is said of it."""

import os
import subprocess
import sys

import pytest

_PRINT = """
from penstock.api import cli, cli_output
def verb() -> None:
    cli_output.Printer(cli_output.OutputFormat.{format}).{call}
import typer
app = typer.Typer()
app.command()(verb)
cli.make_app = lambda: app
cli.main()
"""


@pytest.mark.parametrize(
    ("format", "call"),
    [("JSON", 'json_line({"a": 1})'), ("TABLE", 'table(("a",), [("b",)])')],
)
def test_a_reader_that_has_left_is_no_trouble(format: str, call: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", _PRINT.format(format=format, call=call)]
    with os.fdopen(writing, "w") as out:
        left = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (left.returncode, left.stderr) == (141, "")
