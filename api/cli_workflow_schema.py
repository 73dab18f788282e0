"""The verb that prints the JSON Schema of workflows, a server's or that of this installation."""

import json

import typer

from .cli_options import ApiKey, Url, settings_and_sources
from .cli_server import answers
from .client import Client
from .workflow_here import require_packages


def schema(url: Url = None, api_key: ApiKey = None) -> None:
    """Print the JSON Schema of workflows, for editors; no server is needed."""
    settings, sources = settings_and_sources(None, None, url=url, api_key=api_key)
    if sources["url"] == "default" and not answers(settings):
        require_packages()
        from ..jobs.workflow.schema import workflow_schema  # not for the light client

        found = workflow_schema()
    else:
        with Client(settings.url, settings.api_key) as client:
            found = client.workflows.schema()
    typer.echo(json.dumps(found, indent=2))
