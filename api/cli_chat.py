"""The verbs chat and models: what one asks a model now. Knows the client and how to print."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .cli_client import open_client
from .cli_options import ApiKey, Model, Output, Sampling, Url, sampling_of
from .cli_output import OutputFormat, Printer
from .client import Client


def chat(
    message: Annotated[
        str | None, typer.Argument(help="What to say; without it a conversation begins.")
    ] = None,
    model: Model = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    sampling: Sampling = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Ask a model now, ahead of all bulk work. The answer is text unless -o json is given."""
    said = [{"role": "system", "content": system}] if system else []
    options = sampling_of(sampling)
    with open_client(url, api_key) as client:
        if message is None and sys.stdin.isatty():
            _converse(client, said, model, options)
            return
        said.append({"role": "user", "content": sys.stdin.read() if message is None else message})
        if output is OutputFormat.JSON:
            Printer(output).json_line(client.chat(said, model=model, **options).raw)
        else:
            _say(client, said, model, options)


def models(url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """List the models that are served."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        found = client.models.list()
    if printer.is_json:
        for model in found:
            printer.json_line(model)
        return
    rows = ((each["id"], each.get("workers"), each.get("max_model_len")) for each in found)
    printer.table(("model", "workers", "longest prompt + answer"), rows)


def _converse(
    client: Client, said: list[dict[str, str]], model: str | None, sampling: dict[str, Any]
) -> None:
    """Talk until Ctrl-D; the model hears all that was said before."""
    while True:
        try:
            said.append({"role": "user", "content": input("> ")})
        except EOFError:
            sys.stdout.write("\n")
            return
        said.append({"role": "assistant", "content": _say(client, said, model, sampling)})


def _say(
    client: Client,
    said: Sequence[dict[str, str]],
    model: str | None,
    sampling: dict[str, Any],
) -> str:
    """Print an answer as it arrives."""
    pieces = []
    with client.chat(said, model=model, stream=True, **sampling) as stream:
        for delta in stream:
            pieces.append(delta.text)
            sys.stdout.write(delta.text)
            sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces)
