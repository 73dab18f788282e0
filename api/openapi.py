"""Lets an application describe itself at /openapi.json. Knows when, and not what it says."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute


def operation_name(route: APIRoute) -> str:
    """Name an operation as its function is called."""
    return route.name


def describe(app: FastAPI) -> None:
    """Let an application tell of its routes; the document is put together when asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            from .openapi_document import document_of  # it loads what only the document needs

            app.openapi_schema = document_of(app)
        return app.openapi_schema

    app.openapi = openapi
