"""What engines were measured to reach, as shares of the planner's own roofline for the same work.

Of this engine there are figures on a CPU alone: nothing of it has been timed on a GPU yet. Those of
GPUs are what others published of theirs; they say what can be hoped for, not what was seen here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .hardware import Hardware, NumberType, find_gpu
from .planner_load import Load, Work
from .planner_memory import share_out
from .planner_models import find_shape
from .planner_roofline import Numbers, Roofline

OURS = "penstock"
_STEP_TOKENS = 8192
_BF16, _FP8 = NumberType.BF16, NumberType.FP8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run of equal rows: who, on what, how fast, and where it is written.

    Attributes:
        layers: what layers were kept in; keys and values were in eight bits where these were fp8.
        tokens_per_s: of answers.
    """

    engine: str
    hardware: Hardware
    model: str
    layers: NumberType
    work: Work
    tokens_per_s: float
    source: str

    @property
    def share(self) -> float:
        """What was reached of the roofline."""
        cache_bytes = 1 if self.layers is _FP8 else 2
        numbers = Numbers(layers=self.layers, others=_BF16, cache_bytes=cache_bytes)
        roofline = Roofline.on(self.hardware, find_shape(self.model), numbers)
        room = share_out(self.hardware, roofline, self.work.num_rows, _STEP_TOKENS)
        batch = min(self.work.num_rows, room.max_rows(self.work.row_tokens))
        load = Load(
            roofline=roofline, work=self.work, step_tokens=_STEP_TOKENS, reads_shared_once=False
        )
        return self.tokens_per_s / load.at(batch).tokens_per_s


@dataclass(frozen=True, slots=True)
class Shares:
    """What to expect of the roofline: what half of the measurements reached, and the least."""

    median: float
    least: float

    @classmethod
    def of(cls, measurements: Sequence[Measurement]) -> "Shares":
        """Sum up what was measured."""
        found = [one.share for one in measurements]
        return cls(median(found), min(found))


def measurements(*, on_gpus: bool) -> tuple[Measurement, ...]:
    """Return what was measured: by others on GPUs, or of this engine on a CPU.

    Sources: LMSYS, "Towards deterministic inference in SGLang" (2025-09, 256 requests, by attention
    backend; FA 3 is FlashAttention 3); TensorRT-LLM 1.0, "performance overview" (3,000 requests,
    one GPU; its layers and, as it recommends, its cache in fp8); and "Engine against every peer" in
    benchmarks/RESULTS.md.
    """
    return _on_gpus() if on_gpus else _on_cpus()


def _on_gpus() -> tuple[Measurement, ...]:
    sglang = ((8497, "FlashInfer"), (7555, "FA 3"), (7102, "Triton"))
    tensorrt = (
        ("H200", "Llama-3.1-8B", 1000, 1000, 17_744),
        ("H200", "Llama-3.1-8B", 500, 2000, 20_770),
        ("H200", "Llama-3.1-8B", 128, 2048, 26_221),
        ("H200", "Llama-3.3-70B", 1000, 1000, 2_909),
        ("H100-SXM", "Llama-3.1-8B", 1000, 1000, 15_220),
        ("H100-SXM", "Llama-3.1-8B", 500, 2000, 17_660),
        ("H100-SXM", "Llama-3.1-8B", 128, 2048, 22_714),
    )
    return (
        *(
            Measurement(
                engine=f"SGLang, {backend}",
                hardware=find_gpu("H200"),
                model="Qwen3-8B",
                layers=_BF16,
                work=Work(num_rows=256, prompt_tokens=1024, answer_tokens=1024),
                tokens_per_s=tokens_per_s,
                source="LMSYS, 2025-09",
            )
            for tokens_per_s, backend in sglang
        ),
        *(
            Measurement(
                engine="TensorRT-LLM 1.0",
                hardware=find_gpu(gpu),
                model=model,
                layers=_FP8,
                work=Work(num_rows=3000, prompt_tokens=prompt, answer_tokens=answer),
                tokens_per_s=tokens_per_s,
                source="TensorRT-LLM, performance overview",
            )
            for gpu, model, prompt, answer, tokens_per_s in tensorrt
        ),
    )


def _on_cpus() -> tuple[Measurement, ...]:
    runs = (
        (_BF16, 32, 273),
        (_BF16, 64, 281),
        (NumberType.INT8, 32, 383),
        (NumberType.INT8, 64, 398),
    )
    return tuple(
        Measurement(
            engine=OURS,
            hardware=_two_zen_5_cores(),
            model="Qwen2.5-0.5B",
            layers=layers,
            work=Work(num_rows=rows, prompt_tokens=128, answer_tokens=64),
            tokens_per_s=tokens_per_s,
            source="benchmarks/RESULTS.md, make bench-engine",
        )
        for layers, rows, tokens_per_s in runs
    )


def _two_zen_5_cores() -> Hardware:
    """Return the machine that the CPU's figures are from, with the limits measured there."""
    rates = {_BF16: 968e9, NumberType.INT8: 1906e9}
    return Hardware(
        name="2 cores of an AMD EPYC (Zen 5)",
        memory_mib=24_576,
        bytes_per_s=37e9,
        operations_per_s=rates,
        capability=None,
        watts=None,
        source="benchmarks/RESULTS.md, What a CPU step costs",
        is_gpu=False,
        copy_share=1.0,
        product_share=1.0,
    )
