"""The same random model in the form that each peer reads. Knows file formats, no engine.

qwen            safetensors, bf16: the original
qwen-w8a8       compressed-tensors: int8 weights per channel, activations quantized per token
qwen-*.gguf     llama.cpp's: bf16, or Q8_0 (int8 in blocks of 32)
qwen-openvino-* OpenVINO's, made by its own converter in its own environment
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM


def make_qwen(directory: Path) -> None:
    """Random weights in the shape of Qwen2.5-0.5B, with a tokenizer of single bytes."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = Qwen2ForCausalLM(config)  # transformers types `to` as taking no type
    for name, parameter in model.named_parameters():
        if name.endswith("proj.bias"):  # zero at first: a peer that drops them would go unnoticed
            torch.nn.init.normal_(parameter, std=0.02)
    model.to(torch.bfloat16).save_pretrained(directory)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bytes_only).save_pretrained(directory)


def make_w8a8(source: Path, directory: Path) -> None:
    """Quantize the projections to int8, each output channel with a scale of its own."""
    directory.mkdir(parents=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            wide = weight.float()
            scale = (wide.abs().amax(1, keepdim=True) / 127).clamp_min(1e-9)
            tensors[name] = (wide / scale).round().clamp(-127, 127).to(torch.int8)
            tensors[name + "_scale"] = scale.bfloat16()
        else:
            tensors[name] = weight
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False}
    activations = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True}
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": "int-quantized",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights | {"strategy": "channel"},
                "input_activations": activations | {"strategy": "token"},
            }
        },
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, directory / name)


_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def make_gguf(source: Path, file: Path, matrices: gguf.GGMLQuantizationType) -> None:
    """Write a Qwen2 checkpoint as GGUF, its matrices as `matrices` says, the rest in float32."""
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")  # token ids go in and come out
    for name, weight in load_file(source / "model.safetensors").items():
        wide = weight.float().numpy()
        type_ = matrices if wide.ndim == 2 else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(wide, type_)
        writer.add_tensor(_gguf_name(name), packed, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    match name.split(".", 3):
        case ["model", "embed_tokens", "weight"]:
            return "token_embd.weight"
        case ["model", "norm", "weight"]:
            return "output_norm.weight"
        case ["model", "layers", layer, rest]:
            module, _, kind = rest.rpartition(".")
            return f"blk.{layer}.{_GGUF_NAMES[module]}.{kind}"
    raise ValueError(f"{name} has no name in GGUF that is known here")


def make_openvino(source: Path, directory: Path, environment: Path, weight_format: str) -> None:
    """Let OpenVINO's own converter make its form of the model."""
    converter = environment / "bin" / "optimum-cli"
    command = [converter, "export", "openvino", "--task", "text-generation-with-past"]
    command += ["--model", source, "--weight-format", weight_format, directory]
    subprocess.run(command, check=True, capture_output=True, text=True)
