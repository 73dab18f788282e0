"""From a checkpoint to a decoder: which tensors there are, what they are called, how they fuse.

Knows the Hugging Face names of a decoder's weights. Refuses to know files (`weights.py`).
"""

import torch

from ...kernels.ops import Ops
from ...kernels.reference import Projection, rotary_table
from ..architecture import ModelArchitecture
from ..weights import Checkpoint
from .decoder import Decoder, DecoderLayer
from .padded_heads import PaddedHeads

_EMBEDDING = "model.embed_tokens.weight"
_FINAL_NORM = "model.norm.weight"
_HEAD = "lm_head.weight"


class DecoderLoader:
    """Builds one decoder from an open checkpoint; `load` is the whole story."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        arch: ModelArchitecture,
        ops: Ops,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._checkpoint = checkpoint
        self._arch = arch
        self._ops = ops
        self._dtype = dtype
        self._device = device
        self._heads = PaddedHeads(arch.head_dim, ops.padded_head_dim(arch.head_dim))

    def load(self, num_positions: int) -> Decoder:
        """Read every weight and return the decoder, with rotary tables for `num_positions`.

        Raises:
            CorruptCheckpoint: tensors are missing, left over, or of the wrong shape.
        """
        arch = self._arch
        self._checkpoint.require(self._expected_names())
        embedding = self._read(_EMBEDDING, arch.vocab_size, arch.hidden_size)
        layers = tuple(self._layer(index) for index in range(arch.num_layers))
        final_norm = self._read(_FINAL_NORM, arch.hidden_size).float()
        if arch.tied:
            head = embedding
            self._checkpoint.ignore([_HEAD])  # some checkpoints store the copy too
        else:
            head = self._read(_HEAD, arch.vocab_size, arch.hidden_size)
        # Old conversions stored this buffer; it follows from config.json.
        self._checkpoint.ignore(
            f"{self._prefix(index)}self_attn.rotary_emb.inv_freq"
            for index in range(arch.num_layers)
        )
        self._checkpoint.require_all_read()
        frequencies = self._heads.frequencies(arch.rope.inverse_frequencies().to(self._device))
        return Decoder(
            ops=self._ops,
            embedding=embedding,
            layers=layers,
            final_norm=final_norm,
            head=self._ops.projection(head, out_dtype=torch.float32),
            rotary_table=rotary_table(frequencies, num_positions),
            attention_scale=self._heads.scale(layers[0].head_norm),
            rms_norm_eps=arch.rms_norm_eps,
        )

    def _layer(self, index: int) -> DecoderLayer:
        arch = self._arch
        prefix = self._prefix(index)
        attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
        hidden, inner = arch.hidden_size, arch.intermediate_size
        gate_up = {f"{mlp}{name}_proj.weight": inner for name in ("gate", "up")}
        head_norm = None
        if arch.qk_norm:
            head_norm = self._heads.norm(
                self._read(f"{attention}q_norm.weight", arch.head_dim).float(),
                self._read(f"{attention}k_norm.weight", arch.head_dim).float(),
                arch.rms_norm_eps,
            )
        return DecoderLayer(
            input_norm=self._read(f"{prefix}input_layernorm.weight", hidden).float(),
            qkv=self._qkv(attention),
            head_norm=head_norm,
            output=self._output(attention),
            post_attention_norm=self._read(
                f"{prefix}post_attention_layernorm.weight", hidden
            ).float(),
            gate_up=self._ops.projection(self._joined(gate_up, hidden)),
            down=self._ops.projection(self._read(f"{mlp}down_proj.weight", hidden, inner)),
            sliding_window=arch.sliding_windows[index],
        )

    def _qkv(self, prefix: str) -> Projection:
        arch = self._arch
        heads = {"q": arch.num_heads, "k": arch.num_kv_heads, "v": arch.num_kv_heads}

        def joined(kind: str, *inputs: int) -> torch.Tensor:
            sizes = {f"{prefix}{x}_proj.{kind}": n * arch.head_dim for x, n in heads.items()}
            return self._heads.outputs(self._joined(sizes, *inputs))

        bias = joined("bias") if arch.qkv_bias else None
        return self._ops.projection(joined("weight", arch.hidden_size), bias)

    def _output(self, prefix: str) -> Projection:
        arch = self._arch
        inputs = arch.num_heads * arch.head_dim
        weight = self._heads.inputs(self._read(f"{prefix}o_proj.weight", arch.hidden_size, inputs))
        bias = self._read(f"{prefix}o_proj.bias", arch.hidden_size) if arch.output_bias else None
        return self._ops.projection(weight, bias)

    def _joined(self, sizes: dict[str, int], *inputs: int) -> torch.Tensor:
        """Join tensors over the same inputs into one; `sizes` are their names and outputs."""
        return torch.cat([self._read(name, size, *inputs) for name, size in sizes.items()])

    def _read(self, name: str, *shape: int) -> torch.Tensor:
        return self._checkpoint.read(name, shape, self._dtype).to(self._device)

    def _expected_names(self) -> list[str]:
        arch = self._arch
        parts = ["input_layernorm.weight", "post_attention_layernorm.weight"]
        parts += [f"mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")]
        parts += [f"self_attn.{name}_proj.weight" for name in "qkvo"]
        if arch.qkv_bias:
            parts += [f"self_attn.{name}_proj.bias" for name in "qkv"]
        if arch.output_bias:
            parts.append("self_attn.o_proj.bias")
        if arch.qk_norm:
            parts += [f"self_attn.{name}_norm.weight" for name in "qk"]
        layers = [self._prefix(index) + part for index in range(arch.num_layers) for part in parts]
        return [_EMBEDDING, *layers, _FINAL_NORM, *([] if arch.tied else [_HEAD])]

    @staticmethod
    def _prefix(index: int) -> str:
        return f"model.layers.{index}."
