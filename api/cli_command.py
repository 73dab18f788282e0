"""A verb, and a group of verbs, as their help pages show them: a flag takes no value.

Knows how options are drawn, none by name.
"""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Verb(TyperCommand):
    """A verb whose flags stand alone in its help, as they are typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give all parameters; `<bool>` behind a flag would read as a value to be given."""
        return _bare_flags(super().get_params(ctx))


class Verbs(TyperGroup):
    """A group of verbs, likewise."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give all parameters."""
        return _bare_flags(super().get_params(ctx))


def draw_as_typed(app: typer.Typer) -> typer.Typer:
    """Let a group, and all that has been registered with it, be drawn so."""
    app.info.cls = Verbs
    for command in app.registered_commands:
        command.cls = Verb
    for group in app.registered_groups:
        group.cls = Verbs
        if group.typer_instance is not None:
            draw_as_typed(group.typer_instance)
    return app


def _bare_flags(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params
