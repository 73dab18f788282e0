"""The verb doctor: what is in force here, and what works. Looks and reports, leaves nothing behind.

Each thing is looked at by itself (`doctor_settings`, `_versions`, `_machine`, `_data`, `_redis`,
`_server`), and one that is broken keeps nobody from looking at the next.
"""

import os

import typer

from .cli_options import ApiKey, Config, Data, Output, Url
from .cli_output import Printer
from .doctor_data import data_directory
from .doctor_machine import machine
from .doctor_redis import redis_server
from .doctor_server import api_server
from .doctor_settings import read_settings
from .doctor_versions import versions
from .findings import Finding, Verdict

_MARKS = {Verdict.INFO: "", Verdict.OK: "ok", Verdict.WARNING: "!", Verdict.FAILURE: "!!"}


def doctor(
    data: Data = None,
    config: Config = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Show the settings in force, versions, and whether the parts can be reached."""
    printer = Printer(output)
    read = read_settings(config, os.environ, data=data, url=url, api_key=api_key)
    settings = read.settings
    findings = [
        *read.findings(),
        *versions(),
        *machine(settings),
        *data_directory(settings),
        *redis_server(settings),
        *api_server(settings, was_named=read.sources["url"] != "default"),
    ]
    if printer.is_json:
        for finding in findings:
            printer.json_line(finding.to_json())
    else:
        _print(printer, findings)
    if any(finding.verdict is Verdict.FAILURE for finding in findings):
        raise typer.Exit(1)


def _print(printer: Printer, findings: list[Finding]) -> None:
    printer.table(
        ("", "what", "name", "value", "from"),
        (
            (_MARKS[each.verdict], each.topic, each.name, each.value, each.source)
            for each in findings
        ),
    )
    troubles = [each for each in findings if each.is_trouble]
    if troubles:
        printer.heading("What to do")
        printer.facts(
            (f"{_MARKS[each.verdict]} {each.topic} {each.name}", f"{each.value}: {each.advice}")
            for each in troubles
        )
