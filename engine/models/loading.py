"""From a checkpoint to a decoder: how its tensors are fused, folded and laid out.

Knows what the decoder wants. Refuses to know files (`weights.py`) and lists of names
(`tensors.py`).
"""

import math
from collections.abc import Callable, Iterable

import torch

from ...kernels.ops import Ops
from ...kernels.reference import HeadNorm, Projection, rotary_table
from ..architecture import ModelArchitecture
from ..kv_cache import CacheScales
from ..layer_kinds import Experts
from ..rotary import Rope
from ..weights import CorruptCheckpoint, Weights
from .decoder import Decoder, DecoderLayer
from .experts import GroupedExperts, MixtureOfExperts, Mlp, SeparateExperts
from .families import ExpertNames, HeadNorms
from .padded_heads import PaddedHeads
from .tensors import embedding_name, final_norm_name, head_name, layer_prefix, tensor_shapes

_BASE_PREFIX = "model."  # what names lack where a model was saved without its head


class DecoderLoader:
    """Builds one decoder from an open checkpoint; `load` is the whole story."""

    def __init__(
        self,
        checkpoint: Weights,
        arch: ModelArchitecture,
        ops: Ops,
        dtype: torch.dtype,
        device: torch.device,
        quantization: str = "none",
    ) -> None:
        self._checkpoint = checkpoint
        self._arch = arch
        self._ops = ops
        self._dtype = dtype
        self._device = device
        # Of the layers; the head and routers, whose scores decide, keep their numbers.
        self._project = ops.projection if quantization == "none" else ops.quantized_projection
        self._grouped_project = ops.grouped_projection if quantization == "none" else None
        padded_dim = ops.padded_head_dim(arch.head_dim)
        self._heads = PaddedHeads(arch.head_dim, padded_dim, arch.ropes[0].rotated_dim)
        self._is_base_model = not self._holds(embedding_name(arch)) and self._holds(
            embedding_name(arch).removeprefix(_BASE_PREFIX)
        )
        self._experts_fused = self._holds_fused_experts()
        self._shapes = tensor_shapes(arch, self._experts_fused)

    def load(self, num_positions: int) -> Decoder:
        """Read every weight and return the decoder, with rotary tables for `num_positions`.

        Raises:
            CorruptCheckpoint: tensors are missing, left over, or of the wrong shape.
        """
        arch = self._arch
        self._checkpoint.require({self._stored(k): shape for k, shape in self._shapes.items()})
        embedding = self._read(embedding_name(arch))
        tables = {rope: self._rotary_table(rope, num_positions) for rope in set(arch.ropes)}
        layers = tuple(self._layer(index, tables) for index in range(arch.num_layers))
        final_norm = self._read_norm(final_norm_name(arch))
        head = embedding if arch.tied else self._read(head_name(arch))
        self._ignore_what_follows_from_other_tensors()
        self._checkpoint.require_all_read()
        scale = self._heads.scale(arch.attention_scale, layers[0].head_norm)
        return Decoder(
            ops=self._ops,
            embedding=embedding,
            embedding_scale=self._embedding_scale(),
            layers=layers,
            final_norm=final_norm,
            head=self._ops.projection(head, out_dtype=torch.float32),
            attention_scale=scale,
            attention_softcap=arch.attention_softcap,
            logit_softcap=arch.logit_softcap,
            rms_norm_eps=arch.rms_norm_eps,
        )

    def _layer(self, index: int, tables: dict[Rope, torch.Tensor]) -> DecoderLayer:
        arch, norms = self._arch, self._arch.family.norms
        prefix = layer_prefix(arch, index)
        experts = arch.experts[index]

        def norm(name: str | None) -> torch.Tensor | None:
            return self._read_norm(f"{prefix}{name}.weight") if name else None

        return DecoderLayer(
            attention_input_norm=norm(norms.attention_input),
            qkv=self._qkv(f"{prefix}self_attn."),
            head_norm=self._head_norm(f"{prefix}self_attn."),
            rotary_table=tables[arch.ropes[index]],
            sliding_window=arch.sliding_windows[index],
            cache_scales=self._cache_scales(f"{prefix}self_attn."),
            output=self._output(f"{prefix}self_attn."),
            attention_output_norm=norm(norms.attention_output),
            mlp_input_norm=norm(norms.mlp_input),
            mlp=self._mixture(prefix, experts) if experts else self._mlp(f"{prefix}mlp."),
            mlp_output_norm=norm(norms.mlp_output),
        )

    def _qkv(self, prefix: str) -> Projection:
        names = ["qkv_proj"] if self._arch.family.fused else ["q_proj", "k_proj", "v_proj"]

        def joined(kind: str) -> torch.Tensor:
            return self._heads.outputs(self._joined(f"{prefix}{name}.{kind}" for name in names))

        return self._project(joined("weight"), joined("bias") if self._arch.qkv_bias else None)

    def _output(self, prefix: str) -> Projection:
        weight = self._heads.inputs(self._read(f"{prefix}o_proj.weight"))
        bias = self._read(f"{prefix}o_proj.bias") if self._arch.output_bias else None
        return self._project(weight, bias)

    def _head_norm(self, prefix: str) -> HeadNorm | None:
        if self._arch.family.head_norms is HeadNorms.NONE:
            return None
        query, key = (self._read_norm(f"{prefix}{name}_norm.weight") for name in "qk")
        return self._heads.norm(query, key, self._arch.rms_norm_eps)

    def _cache_scales(self, prefix: str) -> CacheScales:
        """Read what a calibration has found out for caches of eight-bit floats, if there was one.

        Raises:
            CorruptCheckpoint: a scale is not one number above 0.
        """
        return CacheScales(
            key=self._cache_scale((f"{prefix}k_scale", f"{prefix}k_proj.k_scale")),
            value=self._cache_scale((f"{prefix}v_scale", f"{prefix}v_proj.v_scale")),
        )

    def _cache_scale(self, names: tuple[str, ...]) -> float:
        stored = next(filter(self._checkpoint.__contains__, map(self._stored, names)), None)
        if stored is None:
            return 1.0
        shape = () if self._holds(stored, ()) else (1,)
        scale = self._checkpoint.read(stored, shape, torch.float32).item()
        if not 0 < scale < math.inf:
            raise CorruptCheckpoint(f"{stored} must be a number above 0, got {scale}")
        return scale

    def _mlp(self, prefix: str) -> Mlp:
        names = ["gate_up_proj"] if self._arch.family.fused else ["gate_proj", "up_proj"]

        def joined(kind: str) -> torch.Tensor:
            return self._joined(f"{prefix}{name}.{kind}" for name in names)

        biased = self._arch.mlp_bias
        return Mlp(
            self._project(joined("weight"), joined("bias") if biased else None),
            self._activation(),
            self._project(
                self._read(f"{prefix}down_proj.weight"),
                self._read(f"{prefix}down_proj.bias") if biased else None,
            ),
        )

    def _mixture(self, prefix: str, experts: Experts) -> MixtureOfExperts:
        names = self._arch.family.experts or ExpertNames()
        if self._experts_fused:
            prefix += "mlp."
            pairs = zip(
                self._read(f"{prefix}experts.gate_up_proj"),
                self._read(f"{prefix}experts.down_proj"),
                strict=True,
            )
        else:
            prefix += f"{names.mixture}."
            pairs = (
                self._expert(f"{prefix}experts.{index}.", names)
                for index in range(experts.num_experts)
            )
        router = self._read(f"{prefix}gate.weight")
        return MixtureOfExperts(
            router=self._ops.projection(router, out_dtype=torch.float32),
            experts=self._experts(pairs),
            num_experts_per_token=experts.num_experts_per_token,
            normalized=experts.normalized,
        )

    def _experts(
        self, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]
    ) -> SeparateExperts | GroupedExperts:
        """Return experts made from gate over up, and down, of each."""
        activate, grouped = self._activation(), self._grouped_project
        if grouped is None:
            mlps = [Mlp(self._project(gate), activate, self._project(down)) for gate, down in pairs]
            return SeparateExperts(tuple(mlps))
        gates, downs = (torch.stack(weights) for weights in zip(*pairs, strict=True))
        return GroupedExperts(len(downs), grouped(gates), activate, grouped(downs))

    def _expert(self, prefix: str, names: ExpertNames) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gate over up, and down, of one expert."""
        gate_up = self._joined(f"{prefix}{name}.weight" for name in (names.gate, names.up))
        return gate_up, self._read(f"{prefix}{names.down}.weight")

    def _activation(self) -> Callable[[torch.Tensor], torch.Tensor]:
        gates = {"silu": self._ops.silu_and_mul, "gelu_tanh": self._ops.gelu_and_mul}
        return gates[self._arch.activation]

    def _embedding_scale(self) -> float:
        if not self._arch.family.scaled_embedding:
            return 1.0
        # Gemma was trained with the root as its own type has it: sqrt(3072) is 55.5 in bfloat16.
        return torch.tensor(self._arch.hidden_size**0.5, dtype=self._dtype).item()

    def _rotary_table(self, rope: Rope, num_positions: int) -> torch.Tensor:
        frequencies = rope.inverse_frequencies(num_positions).to(self._device)
        return self._heads.rotary_table(rotary_table(frequencies, num_positions, rope.amplitude))

    def _holds_fused_experts(self) -> bool:
        """Whether a layer's experts lie in one tensor, as `transformers` holds them in memory."""
        mixtures = [index for index, experts in enumerate(self._arch.experts) if experts]
        if not mixtures:
            return False
        return self._holds(
            self._stored(f"{layer_prefix(self._arch, mixtures[0])}mlp.experts.gate_up_proj")
        )

    def _holds(self, stored_name: str, shape: tuple[int, ...] | None = None) -> bool:
        """Whether there is such a tensor, and if a shape is given, one of that shape."""
        try:
            self._checkpoint.require([stored_name] if shape is None else {stored_name: shape})
        except CorruptCheckpoint:
            return False
        return True

    def _stored(self, name: str) -> str:
        """Return a tensor's name in the checkpoint, which may be one of a model without a head."""
        return name.removeprefix(_BASE_PREFIX) if self._is_base_model else name

    def _ignore_what_follows_from_other_tensors(self) -> None:
        arch = self._arch
        if arch.tied:  # some checkpoints store the copy too
            self._checkpoint.ignore([head_name(arch)])
        # Old conversions stored this buffer; it follows from config.json.
        self._checkpoint.ignore(
            self._stored(f"{layer_prefix(arch, index)}self_attn.rotary_emb.inv_freq")
            for index in range(arch.num_layers)
        )
        if arch.family.ignored:
            self._checkpoint.ignore_parts(arch.family.ignored)

    def _joined(self, names: Iterable[str]) -> torch.Tensor:
        """Join tensors over the same inputs into one."""
        tensors = [self._read(name) for name in names]
        return torch.cat(tensors) if len(tensors) > 1 else tensors[0]

    def _read(self, name: str) -> torch.Tensor:
        return self._read_as(name, self._dtype)

    def _read_norm(self, name: str) -> torch.Tensor:
        return self._read_as(name, torch.float32) + self._arch.family.norm_offset

    def _read_as(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        tensor = self._checkpoint.read(self._stored(name), self._shapes[name], dtype)
        return tensor.to(self._device)
