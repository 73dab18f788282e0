"""Where the tokens of a text end, by a model's own tokenizer. Loads one when it is first asked.

Needs the `tokenizers` package, as workers have it; elsewhere a step that counts tokens says so.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ...engine.model_place import ModelNotFound, resolve_model
from ..fake_engine import PREFIX
from .tools import MissingTool

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOKENIZERS = 4  # kept


def token_ends(text: str, model: str) -> Sequence[int]:
    """Say at which character each token of a text ends.

    Raises:
        MissingTool: the model has no tokenizer that can be loaded here.
    """
    return _ends_of(model)(text)


@lru_cache(maxsize=_TOKENIZERS)
def _ends_of(model: str) -> Callable[[str], Sequence[int]]:
    if model.startswith(PREFIX):  # a token is a character
        return lambda text: range(1, len(text) + 1)
    tokenizer = _load(model)

    def ends(text: str) -> Sequence[int]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return [end for _, end in encoding.offsets]

    return ends


def _load(model: str) -> "Tokenizer":
    try:
        from tokenizers import Tokenizer  # of the worker's extra, and slow to import

        path = resolve_model(model) / "tokenizer.json"
        return Tokenizer.from_file(str(path))
    except ImportError as error:
        raise MissingTool(f"tokens cannot be counted here: {error}") from error
    except ModelNotFound as error:
        raise MissingTool(f"tokens of {model} cannot be counted: {error}") from error
    except Exception as error:  # whatever the package raises: it has one class for all
        raise MissingTool(f"the tokenizer of {model} cannot be read: {error}") from error
