"""Any other causal language model of `transformers`, run with our cache and our attention.

Knows how to load such a model without executing anything that came with its weights, and how to
find out whether it can be run in steps. Refuses to know any model by name: what cannot be proven
equal to the model's own attention, on a few tokens at load, is refused with the reason.
"""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...kernels.ops import Ops, choose_ops
from ...kernels.reference import LayerCache
from ..architecture import UnsupportedModel
from ..batch import ScheduledRow, StepBatch, build_step_batch
from ..kv_cache import BlockShape, CacheScales, KVCache
from .attention_interface import (
    IMPLEMENTATION,
    LayerAttention,
    PagedStep,
    RecordingStep,
    Step,
    UnsupportedAttention,
    answering,
    register,
)

_PROBE_LENGTHS = (19, 6)  # two rows, so that it shows if one sees the other
_PROBE_CHUNK = 8  # tokens of a row in a step, so that it shows if a step forgets the one before
_TOLERANCE = {torch.float32: 1e-3}  # of the largest logit
_COARSE_TOLERANCE = 0.1


class TransformersModel:
    """A model of `transformers`, called as `Decoder` is.

    Attributes:
        ops: the operations attention is made of.
        block: what a block of the cache is to hold.

    Raises:
        UnsupportedModel: it cannot be loaded safely, or its attention is not ours to replace.
    """

    def __init__(
        self,
        directory: Path,
        dtype: torch.dtype,
        device: torch.device,
        block_size: int,
        num_threads: int,
    ) -> None:
        self._name = str(directory)
        self._model = _load(directory, dtype).to(device)
        try:
            layers = self._learn_layers()
            head_dim = max(layer.head_dim for layer in layers)
            self.ops: Ops = choose_ops(device, dtype, head_dim, block_size, num_threads)
            self.block = BlockShape(
                num_layers=len(layers),
                num_kv_heads=layers[0].num_kv_heads,
                head_dim=self.ops.padded_head_dim(head_dim),
                block_size=block_size,
                dtype=dtype,
            )
            self._compare_steps()
        except UnsupportedAttention as error:
            raise self._refusal(str(error)) from error
        except Exception as error:  # the code of some other project
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    @property
    def cache_scales(self) -> list[CacheScales]:
        """One for each layer, all 1: such a model's cache is in its own type."""
        return [CacheScales()] * self.block.num_layers

    def __call__(self, batch: StepBatch, caches: Sequence[LayerCache]) -> torch.Tensor:
        """Run one step: writes the step's keys and values, returns logits [L, vocab]."""
        return self.logits(self.hidden(batch, caches))

    def hidden(self, batch: StepBatch, caches: Sequence[LayerCache]) -> torch.Tensor:
        """Run one step up to the last norm: returns [L, hidden], what the head reads."""
        step = PagedStep(self.ops, batch, caches)
        return self._run(batch.token_ids, batch.positions, step)[batch.logit_rows]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits [L, vocab] for what `hidden` returned."""
        return self._head(inputs_embeds=hidden[None], use_cache=False).logits[0]

    def _run(self, token_ids: torch.Tensor, positions: torch.Tensor, step: Step) -> torch.Tensor:
        with answering(step):
            output = self._body(
                input_ids=token_ids[None], position_ids=positions[None], use_cache=False
            )
        return output.last_hidden_state[0]

    # -- what is found out at load ------------------------------------------------------------

    def _learn_layers(self) -> list[LayerAttention]:
        """Take the model apart and find out how each layer attends.

        Raises:
            UnsupportedAttention: it cannot be run in steps, or the cache cannot hold its keys.
        """
        model = self._model
        config = model.config.get_text_config()
        if "position_ids" not in inspect.signature(model.forward).parameters:
            raise UnsupportedAttention("it does not take the tokens' positions")
        _refuse_moving_frequencies(config)
        self._probes = [_probe(length, config.vocab_size) for length in _PROBE_LENGTHS]
        self._expected = [
            model(probe[None].to(model.device), use_cache=False).logits[0] for probe in self._probes
        ]
        self._body = getattr(model, model.base_model_prefix)
        self._head = _without_body(model)
        register()
        model.set_attn_implementation(IMPLEMENTATION)
        step = RecordingStep()
        probe = self._probes[0].to(model.device)
        self._run(probe, torch.arange(len(probe), device=probe.device), step)
        if sorted(step.layers) != list(range(config.num_hidden_layers)):
            raise UnsupportedAttention(
                f"{len(step.layers)} of its {config.num_hidden_layers} layers attend through "
                "transformers' attention interface"
            )
        layers = [step.layers[index] for index in range(config.num_hidden_layers)]
        if len({layer.num_kv_heads for layer in layers}) > 1:
            raise UnsupportedAttention("its layers differ in their number of key-value heads")
        refuse_windows_in_masks(config, layers)
        return layers

    def _compare_steps(self) -> None:
        """Hold our steps against the model's own attention, all probes side by side.

        Raises:
            UnsupportedAttention: they differ.
        """
        device, block_size = self._model.device, self.block.block_size
        blocks_per_row = -(-max(_PROBE_LENGTHS) // block_size)
        cache = KVCache(self.block, 1 + blocks_per_row * len(_PROBE_LENGTHS), device)
        caches = [cache.layer(index) for index in range(self.block.num_layers)]
        for begin in range(0, max(_PROBE_LENGTHS), _PROBE_CHUNK):
            rows, wanted = [], []
            for index, (probe, logits) in enumerate(zip(self._probes, self._expected, strict=True)):
                chunk = probe[begin : begin + _PROBE_CHUNK].tolist()
                if chunk:
                    blocks = range(1 + index * blocks_per_row, 1 + (index + 1) * blocks_per_row)
                    rows.append(ScheduledRow(chunk, begin, blocks))
                    wanted.append(logits[begin + len(chunk) - 1])
            found = self(build_step_batch(rows, block_size, device), caches)
            expected = torch.stack(wanted)
            tolerance = _TOLERANCE.get(self.block.dtype, _COARSE_TOLERANCE) * expected.abs().max()
            if not (found - expected).abs().max() <= tolerance:  # NaN is not within any
                raise UnsupportedAttention("in steps it does not compute what it computes at once")

    def _refusal(self, reason: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"{self._name}: {type(self._model).__name__} cannot run with a paged cache: {reason}"
        )


class _Output:
    """What a body returns. Whatever else a model's head asks of it is not there."""

    def __init__(self, last_hidden_state: torch.Tensor) -> None:
        self.last_hidden_state = last_hidden_state

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.last_hidden_state


class _Given(torch.nn.Module):
    """Stands where a model had its body, and hands on the hidden states it is given."""

    @property
    def decoder(self) -> "_Given":
        """Some models ask a part of their body (OPT)."""
        return self

    def forward(self, *_: object, inputs_embeds: torch.Tensor, **__: object) -> _Output:
        return _Output(inputs_embeds)


def _without_body(model: Any) -> Any:
    """Return the model's head: the same model, its weights shared, without its body."""
    head = copy.copy(model)
    head._modules = {**model._modules, model.base_model_prefix: _Given()}
    return head


def _load(directory: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises a dozen kinds
        raise UnsupportedModel(
            f"transformers cannot load {directory}: {type(error).__name__}: {error}"
        ) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            shown = ", ".join(sorted(map(str, report[what]))[:5])
            raise UnsupportedModel(
                f"{directory}: {len(report[what])} {what.replace('_', ' ')}, such as {shown}"
            )
    return model.eval()


def _refuse_moving_frequencies(config: Any) -> None:
    """Rotary embeddings that depend on the longest row of a step make rows depend on each other."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = {
        str(one.get("rope_type"))
        for one in [parameters, *parameters.values()]
        if isinstance(one, dict)
    }
    moving = kinds & {"dynamic", "longrope"}
    if moving:
        raise UnsupportedAttention(
            f"its rotary embedding is of the kind {', '.join(sorted(moving))}"
        )


def refuse_windows_in_masks(config: Any, layers: Sequence[LayerAttention]) -> None:
    """Refuse a window that a model puts into its masks alone: no short probe would tell.

    Raises:
        UnsupportedAttention: there is one.
    """
    has_window = bool(getattr(config, "sliding_window", None))
    has_window &= bool(getattr(config, "use_sliding_window", True))
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        if has_window and not any(layer.sliding_window for layer in layers):
            raise UnsupportedAttention("it does not hand its sliding window to attention")
        return
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown:
        raise UnsupportedAttention(f"it has layers of the kind {', '.join(sorted(unknown))}")
    for index, (kind, layer) in enumerate(zip(kinds, layers, strict=True)):
        if (kind == "sliding_attention") != (layer.sliding_window is not None):
            raise UnsupportedAttention(f"layer {index} does not hand its window to attention")


def _probe(length: int, vocab_size: int) -> torch.Tensor:
    return torch.arange(1, length + 1) * (7919 + length) % vocab_size
