"""How a dry run is printed: a table of facts, then what is wrong and where. Knows no server."""

from .cli_output import Printer
from .validation_facts import (
    PROBLEM_COLUMNS,
    REPEAT_COLUMNS,
    validation_doubts,
    validation_facts,
    validation_grounds,
    validation_problems,
    validation_repeats,
)
from .validation_record import JobValidation


def print_validation(printer: Printer, found: JobValidation) -> None:
    """Print what a dry run has found."""
    if printer.is_json:
        printer.json_line(found.raw)
    else:
        _print_tables(printer, found)
    for text in validation_doubts(found.raw):
        printer.note(text)
    for text in () if printer.is_json else validation_grounds(found.raw):
        printer.note(text)


def _print_tables(printer: Printer, found: JobValidation) -> None:
    printer.facts(validation_facts(found.raw))
    problems, repeats = list(validation_problems(found.raw)), list(validation_repeats(found.raw))
    if problems:
        printer.heading("what is wrong")
        # A message ends with its remedy, so it stays whole.
        printer.table(PROBLEM_COLUMNS, problems, unbroken=("how many",), longest=None)
    if repeats:
        printer.heading("what is there twice")
        printer.table(REPEAT_COLUMNS, repeats)
