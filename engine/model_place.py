"""Where a model lies: here, or in a repository on the hub. Refuses to look inside."""

import os
from pathlib import Path

DEMO_MODEL = "penstock-demo"
_GGUF_SUFFIX = ".gguf"
_TEXTS = ("*.json", "*.jinja", "tokenizer*", "*.txt")
_WEIGHTS = ("*.safetensors",)


class ModelNotFound(ValueError):
    """No model under this name: neither a directory here nor a repository on the hub."""


def resolve_model(name: str) -> Path:
    """Return the directory or GGUF file of the model called `name`, downloading it if need be.

    Of a directory without a config.json, the one GGUF file in it is meant. Only safetensors, JSON
    and tokenizer files are ever fetched.

    Raises:
        ModelNotFound: there is no such directory and no such repository in reach.
    """
    return _resolve(name, (*_WEIGHTS, *_TEXTS))


def resolve_tokenizer(name: str) -> Path:
    """As `resolve_model`, for whoever wants no weights: of a repository, none are fetched."""
    return _resolve(name, _TEXTS)


def _resolve(name: str, fetched: tuple[str, ...]) -> Path:
    if not name:
        raise ModelNotFound("the model's name is empty; name a directory, a GGUF file or a hub id")
    directory = Path(__file__).parent / "demo_model" if name == DEMO_MODEL else _at_home(name)
    if (directory / "config.json").is_file():
        return directory
    if directory.is_dir():
        return _only_gguf(directory)
    if directory.suffix == _GGUF_SUFFIX:
        if directory.is_file():
            return directory
        raise ModelNotFound(f"there is no file {directory}; name one that exists")
    if name == DEMO_MODEL or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelNotFound(f"there is no directory {directory}; name one that exists or a hub id")
    return _download(name, fetched)


def _at_home(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except (RuntimeError, ValueError) as error:  # the latter of a name with a NUL in it
        raise ModelNotFound(
            f"no home directory is known of {Path(name).parts[0]}; name a directory that exists or "
            "a hub id"
        ) from error


def _only_gguf(directory: Path) -> Path:
    found = sorted(directory.glob(f"*{_GGUF_SUFFIX}"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise ModelNotFound(f"{directory} holds {len(found)} GGUF files ({names}); name one")
    raise ModelNotFound(f"{directory} is a directory without a config.json; name a checkpoint's")


def _download(name: str, fetched: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download  # costs a second, and only this path needs it

    try:
        return Path(snapshot_download(name, allow_patterns=list(fetched)))
    except (OSError, ValueError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ModelNotFound(
            f"model {name!r} is neither a directory under {Path.cwd()} nor could it be fetched "
            f"from the Hugging Face hub{offline}: {type(error).__name__}: {error}"
        ) from error
