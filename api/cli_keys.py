"""The verbs of API keys: create, list, revoke. They work on the data directory, not on a server.

The first key must come from somewhere: whoever may write the data directory may make keys.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .cli_examples import example
from .cli_options import Config, Data, Output, UsageProblem, settings_of
from .cli_output import Printer
from .client_errors import PenstockError

if TYPE_CHECKING:
    from ..jobs.api_keys import Scope
    from ..jobs.tenants import TenantLimits

keys = typer.Typer(no_args_is_help=True, help="API keys, and what their tenants may have.")

_CAN_BE_LIFTED = frozenset(
    {"max_rows", "max_queued_tokens", "max_stored_bytes", "max_streams"}
    | {"requests_per_minute", "creates_per_minute"}
)
_COLUMNS = ("id", "tenant", "scopes", "name", "created_at", "revoked_at")


@keys.command(epilog=example("keys create"))
def create(
    tenant: Annotated[str, typer.Option(help="Whose files, batches and jobs it opens.")],
    scopes: Annotated[
        str, typer.Option(help="read, submit and admin, comma-separated.")
    ] = "submit,read",
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    weight: Annotated[
        float | None, typer.Option(help="The tenant's share of the engines; others have 1.")
    ] = None,
    priority_ceiling: Annotated[
        int | None, typer.Option(help="The highest priority of the tenant's jobs.")
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(help="Rows of the tenant at work at a time; more wait.")
    ] = None,
    max_queued_tokens: Annotated[
        int | None, typer.Option(help="Tokens of the tenant at work at a time; more wait.")
    ] = None,
    max_stored_bytes: Annotated[
        int | None, typer.Option(help="Bytes of the tenant's files, uploads and jobs on disk.")
    ] = None,
    max_streams: Annotated[
        int | None, typer.Option(help="Streams of each key at one API process; more wait.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests that one API process takes from the tenant.")
    ] = None,
    creates_per_minute: Annotated[
        int | None, typer.Option(help="Jobs, batches and files that it takes in, likewise.")
    ] = None,
    data: Data = None,
    config: Config = None,
    output: Output = None,
) -> None:
    """Make a key and print it, this once. From then on the API asks for one.

    What is said of the tenant holds for all its keys; what is not said stays as it was, and a
    limit of 0 is none.
    """
    from ..jobs.api_keys import ApiKeys
    from ..jobs.tenants import InvalidTenant, Tenants
    from .key_place import place_notes

    settings = settings_of(config, None, data=data)
    given = {
        "weight": weight,
        "priority_ceiling": priority_ceiling,
        "max_rows": max_rows,
        "max_queued_tokens": max_queued_tokens,
        "max_stored_bytes": max_stored_bytes,
        "max_streams": max_streams,
        "requests_per_minute": requests_per_minute,
        "creates_per_minute": creates_per_minute,
    }
    for each in _CAN_BE_LIFTED:
        if (given[each] or 0) < 0:
            flag = each.replace("_", "-")
            raise UsageProblem(f"--{flag} must be at least 1, or 0 for none, got {given[each]}")
    limits = {
        each: None if value == 0 and each in _CAN_BE_LIFTED else value
        for each, value in given.items()
        if value is not None
    }
    wanted = _scopes(scopes)
    try:
        Tenants(settings.tenants_dir).change(tenant, cast("TenantLimits", limits))
        made, key = ApiKeys(settings.keys_dir).create(tenant, wanted, name)
    except InvalidTenant as error:
        raise UsageProblem(str(error)) from error
    printer = Printer(output)
    if printer.is_json:
        printer.json_line({**_facts(made), "key": key})
    else:
        printer.facts([("id", made.id), ("tenant", made.tenant), ("key", key)])
        printer.note("Keep it: it is not shown again. Clients take it from PENSTOCK_API_KEY.")
    for note in place_notes(settings, key):
        printer.note(note)


@keys.command(name="list", epilog=example("keys list"))
def list_keys(data: Data = None, config: Config = None, output: Output = None) -> None:
    """List all keys, the revoked ones too; never the keys themselves."""
    from ..jobs.api_keys import ApiKeys

    printer = Printer(output)
    settings = settings_of(config, None, data=data)
    found = [_facts(key) for key in ApiKeys(settings.keys_dir).list()]
    printer.note(f"keys kept in {settings.data_dir}")
    if printer.is_json:
        for each in found:
            printer.json_line(each)
    else:
        columns = [name for name in _COLUMNS if any(each[name] for each in found)] or _COLUMNS
        lines = ([_shown(name, each[name]) for name in columns] for each in found)
        printer.table(columns, lines, unbroken=("created_at", "revoked_at"), longest=None)


@keys.command(epilog=example("keys revoke"))
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as in key_01K3….")],
    data: Data = None,
    config: Config = None,
    output: Output = None,
) -> None:
    """Put a key out of force, everywhere within a second."""
    from ..jobs.api_keys import ApiKeys, UnknownKey

    try:
        revoked = ApiKeys(settings_of(config, None, data=data).keys_dir).revoke(key_id)
    except UnknownKey as error:
        raise PenstockError(str(error)) from error
    printer = Printer(output)
    if printer.is_json:
        printer.json_line(_facts(revoked))
    else:
        printer.note(f"{revoked.id} of {revoked.tenant} is revoked")


def _scopes(text: str) -> "frozenset[Scope]":
    from ..jobs.api_keys import Scope

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in set(Scope):
            raise UsageProblem(f"a scope must be one of {', '.join(Scope)}, got {name!r}")
    if not names:
        raise UsageProblem("--scopes must name at least one scope")
    return frozenset(map(Scope, names))


def _facts(key: Any) -> dict[str, Any]:
    """Return what may be seen of a key."""
    facts = {name: getattr(key, name) for name in _COLUMNS}
    return {**facts, "scopes": ",".join(sorted(key.scopes))}


def _shown(column: str, value: Any) -> Any:
    """Write a moment as people do, and scopes so that they can be told apart on several lines."""
    if column == "scopes":
        return value.replace(",", ", ")
    if value is None or not column.endswith("_at"):
        return value
    return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M")
