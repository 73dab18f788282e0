"""The options that several verbs share, by name. Knows their spelling and help, not their use."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ..jobs.settings import Settings
from . import known_names
from .cli_output import OutputFormat
from .client_errors import PenstockError


def _share(text: str) -> float:
    """Read a share of the rows, also in per cent; an option's parser stands above the option."""
    number, sign, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if sign else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise typer.BadParameter(f"must be from 0 to 1, as in 0.05, or per cent; got {text!r}")
    return share


def _format(text: str) -> OutputFormat:
    try:
        return OutputFormat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not table or json") from None


Url: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", envvar="PENSTOCK_URL", help="The server.", show_default="this machine"),
]
ApiKey: TypeAlias = Annotated[
    str | None,
    typer.Option("--api-key", envvar="PENSTOCK_API_KEY", help="The key the server asks for."),
]
Output: TypeAlias = Annotated[
    OutputFormat | None,
    typer.Option(
        "--output",
        "-o",
        parser=_format,
        autocompletion=lambda: list(OutputFormat),
        metavar="<table|json>",
        help="How to print.",
        show_default="table on a terminal, else json",
    ),
]
JobId: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The id of a job or a run; of the newest 500, 4 characters of its start "
        "or end; or latest.",
        autocompletion=known_names.jobs_and_runs,
    ),
]
WholeId: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The whole id of a job or a run.",
        autocompletion=known_names.whole_ids,
    ),
]

Input: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="A JSONL, CSV, TSV or Parquet file of rows, or a JSON array; s3://BUCKET/KEY; or - "
        "for a pipe.",
    ),
]
Prompt: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Template over a row's columns, as in '{{ row.text }}'; @FILE reads one."),
]
System: TypeAlias = Annotated[
    str | None, typer.Option(help="A system message before the prompt; a template, too.")
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Which model.", autocompletion=known_names.models),
]
Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Hugging Face id or directory; may be repeated."),
]
IdColumn: TypeAlias = Annotated[
    str | None, typer.Option("--id", help="The column that identifies a row.")
]
Sampling: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--sampling", "-s", metavar="NAME=VALUE", help="As in -s temperature=0 -s max_tokens=64."
    ),
]
Raw: TypeAlias = Annotated[
    bool, typer.Option("--raw", help="Leave the prompt as it is, without the chat template.")
]
Name: TypeAlias = Annotated[str | None, typer.Option(help="A name for people.")]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option("--format", help="jsonl, csv, tsv or parquet, where INPUT's name tells nothing."),
]
Priority: TypeAlias = Annotated[
    int | None, typer.Option(help="Larger is served first; may be below 0.")
]
Deadline: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN", help="As in 2h, 7d or 2027-01-31T18:00Z: what is left then is not run."
    ),
]
MaxErrorRate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        parser=_share,
        metavar="SHARE",
        help="Pause when more of the rows failed, as in 0.05 or 5%.",
    ),
]
Schema: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--schema", metavar="FILE", help="JSON Schema of the answers; fills the column parsed."
    ),
]
Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="KEY=VALUE", help="Metadata, which jobs --tag finds; may be given again."
    ),
]
Here: TypeAlias = Annotated[
    bool, typer.Option("--here", help="Ask no server, even where one runs.")
]
Again: TypeAlias = Annotated[bool, typer.Option("--again", help="Do not take up an earlier run.")]
Step: TypeAlias = Annotated[
    str | None, typer.Option("--step", help="Of a run of a workflow: of this step alone.")
]
Limit: TypeAlias = Annotated[int, typer.Option(min=1, max=100, help="How many.")]
Data: TypeAlias = Annotated[
    str | None,
    typer.Option("--data", help="Directory of jobs, logs and Redis.", show_default="penstock-data"),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting that `penstock doctor` lists."),
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="TOML file of settings; a flag outranks it.")
]


class UsageProblem(PenstockError):
    """What was typed cannot be meant."""


def settings_of(config: Path | None, pairs: Sequence[str] | None, **flags: Any) -> Settings:
    """Read the settings in force; `--set` stands beside the flags that have a name of their own."""
    return settings_and_sources(config, pairs, **flags)[0]


def settings_and_sources(
    config: Path | None, pairs: Sequence[str] | None, **flags: Any
) -> tuple[Settings, dict[str, str]]:
    """As `settings_of`, and tell for each setting where its value came from."""
    given: dict[str, Any] = _pairs(pairs)
    unknown = given.keys() - {item.name for item in fields(Settings)}
    if unknown:
        raise UsageProblem(f"there is no setting {min(unknown)!r}; `penstock doctor` lists all")
    given |= {name: value for name, value in flags.items() if value is not None}
    return Settings.load_with_sources(toml=config, **given)


def sampling_of(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE pairs; a value that is JSON is taken as such, anything else as text."""
    return {name: _value(text) for name, text in _pairs(pairs).items()}


def tags_of(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read KEY=VALUE pairs; a value is a text."""
    return _pairs(pairs)


def number_or_text(text: str | None) -> float | str | None:
    """Read a number where there is one."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _pairs(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read NAME=VALUE pairs; of two with one name, neither is what was meant."""
    typed: dict[str, str] = {}
    values: dict[str, str] = {}
    for pair in pairs or ():
        name, value = _split(pair)
        if name in typed:
            raise UsageProblem(f"{name!r} is given twice: {typed[name]} and {pair}")
        typed[name], values[name] = pair, value
    return values


def _split(pair: str) -> tuple[str, str]:
    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise UsageProblem(f"expected NAME=VALUE, got {pair!r}")
    return name.strip(), text


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
