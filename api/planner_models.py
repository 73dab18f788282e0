"""Where a model's config.json is found: on disk, in a list of popular ones, or on the hub.

Refuses to read weights, and loads `huggingface_hub` only for a name that is nowhere else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..jobs.settings import DEMO_MODEL
from .home_path import at_home
from .planner_shape import ModelShape, UnplannableModel, read_shape

_DEMO_CONFIG = Path(__file__).parents[1] / "engine" / "demo_model" / "config.json"
_TRAINING = {"instruct", "it", "pt", "base", "2507"}


def find_shape(model: str) -> ModelShape:
    """Return the shape of a model: a directory, a config.json, a popular name or a hub id.

    Raises:
        UnplannableModel: there is no such thing in reach, or it cannot be read.
        InvalidInput: it is in the home directory of nobody who is known.
    """
    path = _DEMO_CONFIG if model == DEMO_MODEL else at_home(model)
    if path.is_dir():
        path /= "config.json"
    if path.suffix == ".gguf":
        raise UnplannableModel(
            f"{model} is a GGUF file; only config.json is read here: name the model it was made of"
        )
    if path.is_file():
        return read_shape(_load(path), path.parent.name if model != DEMO_MODEL else model)
    popular = _popular(model)
    if popular is not None:
        return popular
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise UnplannableModel(
            f"there is no config.json at {model} and no model {model!r} in the list; name a "
            f"directory, a hub id, or one of {', '.join(sorted(POPULAR))}"
        )
    return read_shape(_load(_fetch(model)), model)


def _popular(model: str) -> ModelShape | None:
    wanted = _plain(model)
    for name, sizes in POPULAR.items():
        if wanted in (_plain(name), _plain(name).partition("/")[2]):
            return read_shape({"torch_dtype": "bfloat16", **sizes}, model)
    return None


def _plain(name: str) -> str:
    """Leave out what tells of a model's training: its sizes do not depend on it."""
    return "-".join(part for part in name.lower().split("-") if part not in _TRAINING)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnplannableModel(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise UnplannableModel(f"{path} must hold an object, got {type(config).__name__}")
    return config


def _fetch(model: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download  # a part of the worker's extra
    except ModuleNotFoundError as error:
        raise UnplannableModel(
            f"the config.json of {model!r} is not on this machine, and fetching it needs the "
            "package huggingface_hub (pip install huggingface_hub); or name a directory"
        ) from error
    try:
        return Path(hf_hub_download(model, "config.json"))
    except (OSError, ValueError) as error:  # what the hub's library makes of no network, no model
        first = str(error).strip().partition("\n")[0]
        raise UnplannableModel(
            f"the config.json of {model!r} is neither on this machine nor could it be fetched from "
            f"the Hugging Face hub: {type(error).__name__}: {first}"
        ) from error


def _llama(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": inner,
        "vocab_size": 128_256,
        "max_position_embeddings": 131_072,
        **more,
    }


def _mistral(architecture: str, vocab: int, **more: Any) -> dict[str, Any]:
    sizes = {"architectures": [architecture], "vocab_size": vocab}
    return _llama(4096, 32, 32, 14_336) | sizes | {"max_position_embeddings": 32_768} | more


def _qwen_2(
    hidden: int, layers: int, heads: int, kv_heads: int, inner: int, **more: Any
) -> dict[str, Any]:
    own = {"num_key_value_heads": kv_heads, "vocab_size": 152_064, "max_position_embeddings": 32768}
    return _llama(hidden, layers, heads, inner) | own | more | {
        "architectures": ["Qwen2ForCausalLM"]
    }  # fmt: skip


def _qwen_3(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    own = {"architectures": ["Qwen3ForCausalLM"], "head_dim": 128, "vocab_size": 151_936}
    return _llama(hidden, layers, heads, inner) | own | {"max_position_embeddings": 40_960} | more


def _gemma(
    architecture: str, hidden: int, layers: int, heads: int, kv_heads: int, inner: int, **more: Any
) -> dict[str, Any]:
    own = {"architectures": [architecture], "num_key_value_heads": kv_heads, "head_dim": 256}
    longest = {"max_position_embeddings": 131_072}
    return _llama(hidden, layers, heads, inner) | own | longest | more


_TIED = {"tie_word_embeddings": True}
_WINDOW_2 = {"vocab_size": 256_000, "sliding_window": 4096, "max_position_embeddings": 8192}
_IMAGES = {"vocab_size": 262_208, "sliding_window": 1024}
_PHI_4_MINI = {
    "architectures": ["Phi3ForCausalLM"],
    "vocab_size": 200_064,
    "sliding_window": 262_144,
    **_TIED,
}
_GEMMA_2, _GEMMA_3 = "Gemma2ForCausalLM", "Gemma3ForConditionalGeneration"

# What is in their config.json, as far as it matters here; each total is held by a test.
POPULAR: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": _qwen_2(896, 24, 14, 2, 4864, vocab_size=151_936, **_TIED),
    "Qwen/Qwen2.5-1.5B": _qwen_2(1536, 28, 12, 2, 8960, vocab_size=151_936, **_TIED),
    "Qwen/Qwen2.5-7B": _qwen_2(3584, 28, 28, 4, 18_944),
    "Qwen/Qwen2.5-32B": _qwen_2(5120, 64, 40, 8, 27_648),
    "Qwen/Qwen2.5-72B": _qwen_2(8192, 80, 64, 8, 29_568),
    "Qwen/Qwen3-0.6B": _qwen_3(1024, 28, 16, 3072, **_TIED),
    "Qwen/Qwen3-1.7B": _qwen_3(2048, 28, 16, 6144, **_TIED),
    "Qwen/Qwen3-4B": _qwen_3(2560, 36, 32, 9728, **_TIED),
    "Qwen/Qwen3-8B": _qwen_3(4096, 36, 32, 12_288),
    "Qwen/Qwen3-14B": _qwen_3(5120, 40, 40, 17_408),
    "Qwen/Qwen3-32B": _qwen_3(5120, 64, 64, 25_600),
    "Qwen/Qwen3-30B-A3B": _qwen_3(
        2048, 48, 32, 6144, architectures=["Qwen3MoeForCausalLM"], num_key_value_heads=4,
        num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
    ),
    "meta-llama/Llama-3.2-1B": _llama(2048, 16, 32, 8192, **_TIED),
    "meta-llama/Llama-3.2-3B": _llama(3072, 28, 24, 8192, **_TIED),
    "meta-llama/Llama-3.1-8B": _llama(4096, 32, 32, 14_336),
    "meta-llama/Llama-3.1-70B": _llama(8192, 80, 64, 28_672),
    "meta-llama/Llama-3.3-70B": _llama(8192, 80, 64, 28_672),
    "mistralai/Mistral-7B-v0.1": _mistral("MistralForCausalLM", 32_000, sliding_window=4096),
    "mistralai/Mistral-7B-v0.3": _mistral("MistralForCausalLM", 32_768),
    "mistralai/Mixtral-8x7B-v0.1": _mistral(
        "MixtralForCausalLM", 32_000, num_local_experts=8, num_experts_per_tok=2
    ),
    "google/gemma-2-2b": _gemma(_GEMMA_2, 2304, 26, 8, 4, 9216, **_WINDOW_2),
    "google/gemma-2-9b": _gemma(_GEMMA_2, 3584, 42, 16, 8, 14_336, **_WINDOW_2),
    "google/gemma-2-27b": _gemma(_GEMMA_2, 4608, 46, 32, 16, 36_864, **_WINDOW_2, head_dim=128),
    "google/gemma-3-1b": _gemma(
        "Gemma3ForCausalLM", 1152, 26, 4, 1, 6912, vocab_size=262_144, sliding_window=512
    ),
    "google/gemma-3-4b": _gemma(_GEMMA_3, 2560, 34, 8, 4, 10_240, **_IMAGES),
    "google/gemma-3-12b": _gemma(_GEMMA_3, 3840, 48, 16, 8, 15_360, **_IMAGES),
    "google/gemma-3-27b": _gemma(_GEMMA_3, 5376, 62, 32, 16, 21_504, **_IMAGES, head_dim=128),
    "microsoft/Phi-4-mini-instruct": _llama(3072, 32, 24, 8192, **_PHI_4_MINI),
}  # fmt: skip
