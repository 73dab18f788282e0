"""What the engine needs to know of a model that is not of our families, from its config.json.

Knows names and numbers, no tensors. How its layers attend is found out when it is loaded
(`models/transformers_fallback.py`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .architecture import ModelArchitecture, UnsupportedModel, read_eos_token_ids
from .weights import Checkpoint, CorruptCheckpoint

_SIZES = ("num_hidden_layers", "vocab_size", "max_position_embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignArchitecture:
    """A causal language model of `transformers`; attributes as `ModelArchitecture` has them."""

    name: str
    vocab_size: int
    max_position_embeddings: int
    eos_token_ids: tuple[int, ...]
    dtype: str
    hidden_size: int
    num_parameters: int
    num_labels: int = 0


Architecture = ModelArchitecture | ForeignArchitecture


def read_foreign_architecture(directory: Path) -> ForeignArchitecture:
    """Read the architecture of the checkpoint in `directory`, and the headers of its weights.

    Raises:
        CorruptCheckpoint: the weights are missing or damaged.
        UnsupportedModel: it is no causal language model that `transformers` has code of its own
            for, or it is quantized.
    """
    from transformers import AutoConfig  # costs seconds to import, so only where a model is read

    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        return _architecture(config, directory)
    except (UnsupportedModel, CorruptCheckpoint):
        raise
    except Exception as error:  # a config.json may hold anything, and many readers look at it
        raise UnsupportedModel(
            f"cannot read {directory / 'config.json'}: {type(error).__name__}: {error}"
        ) from error


def _architecture(config: Any, directory: Path) -> ForeignArchitecture:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name = next(iter(config.architectures or []), "(none)")
    path = directory / "config.json"
    if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        raise UnsupportedModel(
            f"{path} names the architecture {name}, which is no causal language model of "
            "transformers"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModel(f"{path}: {name} has an encoder, which is not supported")
    if getattr(config, "quantization_config", None):
        raise UnsupportedModel(f"{path}: quantized weights of {name} are not supported")
    text = config.get_text_config()
    for size in _SIZES:
        value = getattr(text, size, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UnsupportedModel(f"{path}: {size} must be an integer from 1, got {value!r}")
    with Checkpoint(directory) as checkpoint:
        num_parameters = checkpoint.num_elements
    return ForeignArchitecture(
        name=name,
        vocab_size=text.vocab_size,
        max_position_embeddings=text.max_position_embeddings,
        eos_token_ids=read_eos_token_ids(config, text, directory),
        dtype=str(getattr(text, "dtype", None) or "float32").removeprefix("torch."),
        hidden_size=text.hidden_size,
        num_parameters=num_parameters,
    )
