"""One model on one device: a step's batch in, logits out.

Knows the model, its cache and the device. Refuses to know requests, sampling and text.

`execute` returns a device tensor and reads nothing back, so that `device_steps` can launch a step
while the one before it runs, or capture it in a CUDA graph; what it draws is taken from the logits
there.
"""

from pathlib import Path

import torch

from ..kernels import reference
from ..kernels.ops import Ops, choose_ops, pytorch_threads
from ..kernels.reference import LayerCache
from .architecture import (
    ModelArchitecture,
    UnknownFamily,
    UnsupportedModel,
    read_architecture,
)
from .batch import StepBatch
from .config import EngineConfig
from .cores import usable_cores
from .foreign_architecture import Architecture, ForeignArchitecture, read_foreign_architecture
from .gguf_checkpoint import GgufCheckpoint
from .graphs import captured_rows
from .kv_cache import (
    GIB,
    BlockShape,
    KVCache,
    MeasuredMemory,
    choose_cache_dtype,
    plan_num_blocks,
)
from .memory_profile import CudaMeter, MemoryMeter, StepLimits, measure
from .model_place import resolve_model
from .models.decoder import Decoder
from .models.loading import DecoderLoader
from .models.transformers_fallback import TransformersModel
from .prefix_forest import PrefixForest
from .revision import served_revision
from .weights import Checkpoint


class ModelRunner:
    """Loads a model, allocates its cache and runs steps.

    Attributes:
        directory: where the model lies; a file if it is a GGUF file.
        architecture: what it is.
        dtype, device: what it computes in, and where.
        num_blocks, block_size: the cache's blocks, the null block 0 included.
        max_model_len: tokens a single row can reach: the model's limit, the user's or the cache's.
        prefix_forest: finds rows that share prefixes, where attention is to be told of them.

    Raises:
        ModelNotFound, UnsupportedModel, CorruptCheckpoint: see there.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.directory: Path = resolve_model(config.model)
        self.architecture: Architecture = _read_architecture(self.directory)
        self.device = torch.device(config.device)
        self.dtype = choose_dtype(config.dtype, self.architecture, self.device)
        self.block_size = config.block_size
        arch = self.architecture
        wanted = config.max_model_len or arch.max_position_embeddings
        longest = min(wanted, arch.max_position_embeddings)
        num_threads = config.num_threads or usable_cores()
        if isinstance(arch, ForeignArchitecture):
            if config.quantization != "none":
                raise UnsupportedModel(
                    "quantization must be none for a model that transformers runs, got "
                    f"{config.quantization!r}"
                )
            if config.kv_cache_dtype != "auto":
                raise UnsupportedModel(
                    "kv_cache_dtype must be auto for a model that transformers runs, got "
                    f"{config.kv_cache_dtype!r}"
                )
            self._decoder = self._load_foreign(arch, num_threads)
            block = self._decoder.block
        else:
            cache_dtype = choose_cache_dtype(config.kv_cache_dtype, self.dtype, self.device)
            ops = self._choose_ops(arch, num_threads, cache_dtype)
            self._decoder = self._load(arch, ops, longest, config.quantization)
            block = self._block(arch, self._decoder.ops, cache_dtype)
        on_gpu = self.device.type == "cuda"
        measured = self._measure(config, block, CudaMeter(self.device)) if on_gpu else None
        self.num_blocks = plan_num_blocks(config, arch, block, measured)
        max_rows = captured_rows(config.max_num_seqs) or config.max_num_seqs
        self.prefix_forest = (
            PrefixForest(
                block_size=self.block_size, token_bytes=block.token_bytes, max_rows=max_rows
            )
            if config.shared_prefix_attention
            else None
        )
        self.max_model_len = min(longest, (self.num_blocks - 1) * self.block_size)
        self._cache = KVCache(block, self.num_blocks, self.device)
        self._layer_caches = self._layers_of(self._cache)

    @property
    def revision(self) -> str:
        """Another one wherever answers may be others; see `checkpoint_revision` for errors."""
        return served_revision(
            self.directory,
            self.dtype,
            quantization=self._config.quantization,
            kv_cache_dtype=self._config.kv_cache_dtype,
        )

    @property
    def is_capturable(self) -> bool:
        """Whether a step of single tokens reads nothing back, so that it can be captured.

        On a CPU, where it is only repeated, it need not.
        """
        if isinstance(self._decoder, TransformersModel):  # whose code is somebody else's
            return False
        if self.device.type == "cpu":
            return True
        return self._decoder.ops is not reference

    @torch.inference_mode()
    def execute(self, batch: StepBatch) -> torch.Tensor:
        """Run one step: cache its keys and values, return float32 logits [L, vocab].

        Raises:
            ValueError: a row is longer than `max_model_len`.
        """
        self._refuse_longer_rows(batch)
        return self._decoder(batch, self._layer_caches).float()

    @torch.inference_mode()
    def embed(self, batch: StepBatch) -> torch.Tensor:
        """Run one step as `execute` does, but return float32 hidden states [L, hidden].

        Raises:
            ValueError: a row is longer than `max_model_len`.
        """
        self._refuse_longer_rows(batch)
        return self._decoder.hidden(batch, self._layer_caches).float()

    def _measure(
        self, config: EngineConfig, block: BlockShape, meter: MemoryMeter
    ) -> MeasuredMemory:
        """Do the largest steps that the engine may ask for, before the cache takes what is left."""
        null_block = KVCache(block, 1, self.device)
        longest = self.architecture.max_position_embeddings
        limits = StepLimits(
            max_rows=config.max_num_seqs,
            max_tokens=config.max_num_batched_tokens,
            max_model_len=min(config.max_model_len or longest, longest),
            block_size=self.block_size,
            vocab_size=self.architecture.vocab_size,
            device=self.device,
            on_device=bool(config.device_steps),
            are_captured=bool(config.device_steps and config.cuda_graphs) and self.is_capturable,
        )
        return measure(self._decoder, self._layers_of(null_block), limits, meter)

    def _layers_of(self, cache: KVCache) -> list[LayerCache]:
        scales = self._decoder.cache_scales
        return [cache.layer(index, each) for index, each in enumerate(scales)]

    def _refuse_longer_rows(self, batch: StepBatch) -> None:
        if batch.max_context_len > self.max_model_len:  # past it the rotary table ends
            raise ValueError(
                f"a row must not exceed {self.max_model_len} tokens, got {batch.max_context_len}"
            )

    def _choose_ops(
        self, arch: ModelArchitecture, num_threads: int, cache_dtype: torch.dtype
    ) -> Ops:
        ops = choose_ops(
            self.device, self.dtype, arch.head_dim, self.block_size, num_threads, cache_dtype
        )
        if self.device.type == "cpu":
            torch.set_num_threads(pytorch_threads(ops, arch.num_parameters, num_threads))
        return ops

    def _load_foreign(self, arch: ForeignArchitecture, num_threads: int) -> TransformersModel:
        if self.device.type == "cpu":  # matrix products will be PyTorch's
            torch.set_num_threads(pytorch_threads(reference, arch.num_parameters, num_threads))
        with torch.inference_mode():
            return TransformersModel(
                self.directory, self.dtype, self.device, self.block_size, num_threads
            )

    def _block(self, arch: ModelArchitecture, ops: Ops, dtype: torch.dtype) -> BlockShape:
        return BlockShape(
            num_layers=arch.num_layers,
            num_kv_heads=arch.num_kv_heads,
            head_dim=ops.padded_head_dim(arch.head_dim),
            block_size=self.block_size,
            dtype=dtype,
        )

    def _load(
        self, arch: ModelArchitecture, ops: Ops, num_positions: int, quantization: str
    ) -> Decoder:
        is_gguf = self.directory.is_file()
        opened = GgufCheckpoint(self.directory) if is_gguf else Checkpoint(self.directory)
        with torch.inference_mode(), opened as checkpoint:
            loader = DecoderLoader(checkpoint, arch, ops, self.dtype, self.device, quantization)
            return loader.load(num_positions)


def _read_architecture(directory: Path) -> Architecture:
    try:
        return read_architecture(directory)
    except UnknownFamily:
        return read_foreign_architecture(directory)


def choose_dtype(asked: str, arch: Architecture, device: torch.device) -> torch.dtype:
    """Return the type to compute in; `EngineConfig.dtype` has the rule for "auto"."""
    if asked != "auto":
        return getattr(torch, asked)
    if device.type == "cuda":
        return getattr(torch, arch.dtype)
    large = arch.num_parameters * torch.float32.itemsize > GIB
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if arch.dtype == "bfloat16" and large and native else torch.float32
