"""GGUF files written as llama.cpp's converter writes them, from checkpoints of transformers."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "phi3": "phi3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}


def write_gguf(
    directory: Path, path: Path, kind: Kind = Kind.F32, *, tokenizer: bool = False, **changes: Any
) -> Path:
    """Write the checkpoint in `directory` to `path`, matrices quantized to `kind`.

    `changes` replace keys of the metadata, `__` standing for a dot; None drops one.
    """
    config = AutoConfig.from_pretrained(directory)
    architecture = ARCHITECTURES[config.model_type]
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    writer = gguf.GGUFWriter(path, changes.pop("general.architecture", architecture))
    keys = {f"{architecture}.{key}": value for key, value in _sizes(config).items()}
    for key, value in {**keys, **changes}.items():
        if isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    if tokenizer:
        _add_tokenizer(writer, directory)
    factors = _rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for name, values in _converted(directory, config, architecture):
        wanted = kind if values.ndim > 1 else Kind.F32
        writer.add_tensor(name, gguf.quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _sizes(config: Any) -> dict[str, int | float | None]:
    rope = config.rope_parameters
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": head_dim,
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "rope.dimension_count": head_dim,
        "rope.freq_base": float(rope.get("full_attention", rope)["rope_theta"]),
        "expert_count": getattr(config, "num_experts", None),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "expert_feed_forward_length": getattr(config, "moe_intermediate_size", None),
    }
    if rope.get("rope_type") in {"linear", "yarn"}:
        sizes["rope.scaling.type"] = rope["rope_type"]
        sizes["rope.scaling.factor"] = float(rope["factor"])
        sizes["rope.scaling.original_context_length"] = rope.get("original_max_position_embeddings")
    return sizes


def _rope_factors(config: Any) -> np.ndarray | None:
    """Return what Llama 3.1's scaling divides each frequency by, as the converter computes it."""
    rope = config.rope_parameters
    if rope.get("rope_type") != "llama3":
        return None
    head_dim = config.hidden_size // config.num_attention_heads
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)
    longest = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    shortest = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    factors = []
    for frequency in plain.tolist():
        wavelength = 2 * np.pi / frequency
        if wavelength < shortest:
            factors.append(1.0)
        elif wavelength > longest:
            factors.append(rope["factor"])
        else:
            smooth = rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"]
            smooth /= rope["high_freq_factor"] - rope["low_freq_factor"]
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def _converted(directory: Path, config: Any, architecture: str) -> list[tuple[str, np.ndarray]]:
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    found: dict[str, np.ndarray] = {}
    experts: dict[str, list[np.ndarray]] = {}
    for name, stored in load_file(directory / "model.safetensors").items():
        values = stored.float().numpy()
        stem, _, ending = name.rpartition(".")
        parts = stem.split(".experts.")
        if len(parts) == 2:  # experts.7.up_proj: all of one layer make one tensor
            number, part = parts[1].split(".")
            whole = f"{names.get_name(f'{parts[0]}.experts.{part}')}.{ending}"
            experts.setdefault(whole, [values] * config.num_experts)[int(number)] = values
            continue
        theirs = names.get_name(stem)
        assert theirs is not None, name
        if architecture == "llama" and theirs.endswith(("attn_q", "attn_k")):
            is_query = theirs.endswith("attn_q")
            heads = config.num_attention_heads if is_query else config.num_key_value_heads
            halves = values.reshape(heads, 2, -1, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if architecture.startswith("gemma") and theirs.endswith("norm"):
            values = values + 1
        found[f"{theirs}.{ending}"] = values
    found |= {name: np.stack(values) for name, values in experts.items()}
    return list(found.items())


def _add_tokenizer(writer: gguf.GGUFWriter, directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    state = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(state, key=state.__getitem__)
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_token_list(tokens)
    if model["byte_fallback"]:  # SentencePiece's kind: a merge is as good as it is early
        merges = ["".join(pair) for pair in model["merges"]]
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(
            [-float(merges.index(t) + 1) if t in merges else -1e4 for t in tokens]
        )
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_token_types([_token_type(token, special, model["unk_token"]) for token in tokens])
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    ids = {name: state.get(f"<{name}>") if i is None else i for name, i in ids.items()}
    if ids["bos"] is not None:
        writer.add_bos_token_id(ids["bos"])
    writer.add_eos_token_id(ids["eos"])
    if model["unk_token"] is not None:
        writer.add_unk_token_id(state[model["unk_token"]])
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _token_type(token: str, special: set[str], unknown: str | None) -> gguf.TokenType:
    if token == unknown:
        return gguf.TokenType.UNKNOWN
    if token in special:
        return gguf.TokenType.CONTROL
    is_byte = token.startswith("<0x") and len(token) == 6
    return gguf.TokenType.BYTE if is_byte else gguf.TokenType.NORMAL
