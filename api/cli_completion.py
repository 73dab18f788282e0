"""The verb completion: what teaches a shell to complete our verbs, options, ids and models.

The script asks `penstock` itself, with _PENSTOCK_COMPLETE set, whenever somebody presses Tab.
"""

import os
from enum import StrEnum
from typing import Annotated

import typer

# Typer has no public name for these two: it wants to install the script by itself.
from typer.completion import (
    completion_init,  # pyright: ignore[reportPrivateImportUsage]
    get_completion_script,  # pyright: ignore[reportPrivateImportUsage]
)

_VARIABLE = "_PENSTOCK_COMPLETE"


class Shell(StrEnum):
    """A shell that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a script that lets a shell complete verbs, options, ids and models.

    Into ~/.bashrc: eval "$(penstock completion bash)". Into ~/.zshrc, behind compinit, the same
    with zsh. For fish: penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    typer.echo(
        get_completion_script(prog_name="penstock", complete_var=_VARIABLE, shell=shell.value)
    )


def prepare_completion() -> None:
    """Learn the shells' ways of asking, if it is a shell that asks."""
    if os.environ.get(_VARIABLE):
        completion_init()
