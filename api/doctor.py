"""The verb doctor: what is in force here, and what works. Looks and reports, leaves nothing behind.

Each thing is looked at by itself (`doctor_versions`, `_machine`, `_data`, `_redis`, `_server`), and
one that is broken keeps nobody from looking at the next.
"""

from collections.abc import Iterator
from dataclasses import fields

import typer

from ..jobs.redis_url import without_password
from ..jobs.settings import Settings
from .cli_options import ApiKey, Config, Data, Output, Url
from .cli_output import Printer
from .doctor_data import data_directory
from .doctor_machine import machine
from .doctor_redis import redis_server
from .doctor_server import api_server
from .doctor_versions import versions
from .findings import Finding, Verdict

_SECRETS = frozenset({"api_key"})
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
    settings, sources = Settings.load_with_sources(toml=config, data=data, url=url, api_key=api_key)
    findings = [
        *settings_in_force(settings, sources),
        *versions(),
        *machine(settings),
        *data_directory(settings),
        *redis_server(settings),
        *api_server(settings, was_named=sources["url"] != "default"),
    ]
    if printer.is_json:
        for finding in findings:
            printer.json_line(finding.to_json())
    else:
        _print(printer, findings)
    if any(finding.verdict is Verdict.FAILURE for finding in findings):
        raise typer.Exit(1)


def settings_in_force(settings: Settings, sources: dict[str, str]) -> Iterator[Finding]:
    """Tell every setting and where it comes from; secrets are masked."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name in _SECRETS and value is not None:
            value = "***"
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        if item.name == "redis_url":
            text = without_password(text)
        yield Finding("setting", item.name, text, source=sources[item.name])


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
