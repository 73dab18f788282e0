"""Whether a model can be served at all, as far as its files tell. Loads nothing, fetches nothing.

What only a worker finds out, such as whether the hub has a model of this name, it says itself.
"""

import json
from pathlib import Path

from ..jobs.settings import DEMO_MODEL
from .cli_options import UsageProblem
from .home_path import at_home

_MADE_UP = "fake:"  # the made-up engine of tests
_GGUF = ".gguf"
_GGUF_MAGIC = b"GGUF"


def check_model(model: str) -> None:
    """Look whether there is such a model on this machine, where its name is that of a place.

    Raises:
        UsageProblem: there is none, or its config.json cannot be read; the message says what to do.
        InvalidInput: it is in the home directory of nobody who is known.
    """
    if model == DEMO_MODEL or model.startswith(_MADE_UP):
        return
    path = at_home(model)
    if (path / "config.json").is_file():
        _check_config(path / "config.json")
    elif path.is_dir():
        if len(list(path.glob(f"*{_GGUF}"))) != 1:
            raise UsageProblem(
                f"{path} holds no config.json, and not one GGUF file: name a checkpoint's directory"
            )
    elif path.is_file():
        _check_gguf(path)
    elif path.suffix == _GGUF or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UsageProblem(
            f"there is no model at {model}: name a directory that exists, or a hub id, as in "
            "--model Qwen/Qwen2.5-0.5B-Instruct"
        )


def _check_config(path: Path) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageProblem(f"cannot read {path}: {error}; fetch the model again") from error
    if not isinstance(config, dict) or not {"architectures", "model_type"} & config.keys():
        raise UsageProblem(f"{path} names no architecture: it is not a model's")


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(_GGUF_MAGIC)) == _GGUF_MAGIC
    except OSError as error:
        raise UsageProblem(f"cannot read {path}: {error.strerror or error}") from error
    if not is_gguf:
        raise UsageProblem(f"{path} is no GGUF file: name a checkpoint's directory, or a GGUF file")
