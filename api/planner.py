"""How long a bulk job takes on given hardware, what it costs, and which batch keeps a latency.

    plan("Qwen/Qwen3-8B", "H200", Work(num_rows=1_000_000, prompt_tokens=512, answer_tokens=256))

Puts together a model's shape, a device, its memory and the roofline. Loads no weights and no torch;
refuses to know how a plan is printed.
"""

from dataclasses import dataclass, replace

from .cpu_hardware import has_fast_bf16, this_cpu
from .hardware import FP8_CAPABILITY, Hardware, NumberType, find_gpu
from .planner_load import BatchCost, Load, Work, largest_batch
from .planner_measured import Measurement, Shares, measurements
from .planner_memory import GIB, Room, fitting_rows, share_out
from .planner_models import find_shape
from .planner_notes import advice, notes_on, settings_for
from .planner_roofline import Numbers, Roofline, Step
from .planner_shape import ModelShape

CPU = "cpu"
_GPU_BATCH, _CPU_BATCH = 256, 64  # the engine's own, where nothing else is said
_GPU_STEP_TOKENS, _CPU_STEP_TOKENS = 8192, 512
_MAX_BATCH = 4096  # which the decode kernel stops at
_CPU_LANES = 16  # numbers in a vector: heads are padded to whole ones


class DoesNotFit(ValueError):
    """Not even one row finds room; the message says by how much, and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Latency that somebody wants; None where it does not matter."""

    ttft_s: float | None = None
    itl_s: float | None = None

    @property
    def is_given(self) -> bool:
        """Whether either matters."""
        return self.ttft_s is not None or self.itl_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a latency budget costs.

    Attributes:
        batch: the largest that keeps it, by the least share that was measured; None if none does.
        kept: what that batch costs; what a single row costs where none keeps the budget.
    """

    budget: Budget
    batch: int | None
    kept: BatchCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is foretold of a job.

    Attributes:
        num_devices: that each hold the whole model and take an equal part of the rows.
        max_batch: rows that fit at their full length.
        chosen: the batch that the rest is about, at the roofline.
        sweep: other batches, up to the largest.
        prefill: one step that computes prompts.
        shares: what to expect of the roofline; p50 is by the median, p90 by the least.
        choice: what came of latency budgets, None if there were none.
        price_per_hour: of one device.
    """

    shape: ModelShape
    hardware: Hardware
    roofline: Roofline
    work: Work
    num_devices: int
    room: Room
    max_batch: int
    chosen: BatchCost
    sweep: tuple[BatchCost, ...]
    prefill: Step
    shares: Shares
    measured: tuple[Measurement, ...]
    choice: Choice | None
    price_per_hour: float | None
    settings: dict[str, str]
    notes: tuple[str, ...]

    @property
    def longest_step_s(self) -> float:
        """The longest pause between two tokens of a row: a step full of others' prompts."""
        return self.chosen.decode.seconds + self.prefill.seconds

    @property
    def least_s(self) -> float:
        """The job's time at the roofline: that of the device with the most rows."""
        rows = -(-self.work.num_rows // self.num_devices)
        return max(rows / self.chosen.rows_per_s, self.chosen.turn_s)

    @property
    def p50_s(self) -> float:
        """The job's time if the median of what was measured is reached."""
        return self.least_s / self.shares.median

    @property
    def p90_s(self) -> float:
        """The job's time if the least of what was measured is reached."""
        return self.least_s / self.shares.least

    def cost(self, seconds: float) -> float | None:
        """Return what so many seconds of all devices cost; None without a price."""
        if self.price_per_hour is None:
            return None
        return self.price_per_hour * self.num_devices * seconds / 3600

    def energy_kwh(self, seconds: float) -> float | None:
        """Return what all boards take in so many seconds at most; None where it is not known."""
        if self.hardware.watts is None:
            return None
        return self.hardware.watts * self.num_devices * seconds / 3.6e6


def plan(
    model: str,
    gpu: str,
    work: Work,
    *,
    dtype: NumberType | None = None,
    fp8_cache: bool = False,
    num_devices: int = 1,
    batch: int | None = None,
    budget: Budget | None = None,
    price_per_hour: float | None = None,
    cpu_bytes_per_s: float | None = None,
) -> Plan:
    """Plan a job. `gpu` is a listed name, or "cpu" for this machine.

    `dtype` is what layers are kept in, the checkpoint's own by default. `cpu_bytes_per_s` spares
    the probe of this machine's memory.

    Raises:
        UnplannableModel, UnknownHardware, DoesNotFit: see there.
        ValueError: an option is out of range, or the hardware lacks such numbers.
    """
    hardware = this_cpu(cpu_bytes_per_s) if gpu.lower() == CPU else find_gpu(gpu)
    shape = find_shape(model)
    _check(hardware, shape, work, num_devices, batch, fp8_cache)
    roofline = Roofline.on(hardware, shape, _numbers(hardware, shape, dtype, fp8_cache))
    step_tokens = _GPU_STEP_TOKENS if hardware.is_gpu else _CPU_STEP_TOKENS
    usual = _GPU_BATCH if hardware.is_gpu else _CPU_BATCH
    per_device = -(-work.num_rows // num_devices)
    fitting = fitting_rows(
        hardware,
        roofline,
        row_tokens=work.row_tokens,
        shared_tokens=work.cached_tokens,
        step_tokens=step_tokens,
        most=_MAX_BATCH,
    )
    if fitting < 1:
        raise DoesNotFit(advice(hardware, roofline, work, step_tokens))
    if batch is not None and batch > fitting:
        raise ValueError(
            f"batch must be at most {fitting:,}, the rows of {work.row_tokens:,} tokens that fit "
            f"on {hardware.name}, got {batch:,}"
        )
    load = Load(
        roofline=roofline,
        work=replace(work, num_rows=per_device),
        step_tokens=step_tokens,
        reads_shared_once=hardware.is_gpu,
    )
    measured = _measured(hardware, roofline.numbers.layers)
    shares = Shares.of(measured)
    choice = _choose(load, budget, min(fitting, batch or fitting), shares.least)
    size = min(batch or usual, fitting, per_device)
    if choice is not None and choice.batch is not None and batch is None:
        size = min(choice.batch, per_device)
    is_out_of_reach = choice is not None and choice.batch is None
    chosen = load.at(size)
    return Plan(
        shape=shape,
        hardware=hardware,
        roofline=roofline,
        work=work,
        num_devices=num_devices,
        room=share_out(hardware, roofline, size, step_tokens),
        max_batch=fitting,
        chosen=chosen,
        sweep=tuple(load.at(one) for one in _sizes(fitting, size)),
        prefill=load.prefill,
        shares=shares,
        measured=measured,
        choice=choice,
        price_per_hour=price_per_hour,
        # No setting brings what no batch keeps.
        settings={} if is_out_of_reach else settings_for(hardware, size, dtype, fp8_cache),
        notes=tuple(notes_on(hardware, shape, roofline.numbers, chosen, work)),
    )


def _check(
    hardware: Hardware,
    shape: ModelShape,
    work: Work,
    num_devices: int,
    batch: int | None,
    fp8_cache: bool,
) -> None:
    if num_devices < 1:
        raise ValueError(f"num_devices must be at least 1, got {num_devices}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if work.row_tokens > shape.max_position_embeddings:
        raise ValueError(
            f"prompt and answer must be at most {shape.max_position_embeddings:,} tokens together, "
            f"the context of {shape.name}, got {work.row_tokens:,}"
        )
    if fp8_cache and hardware.capability is not None and hardware.capability < FP8_CAPABILITY:
        raise ValueError(
            f"the cache must not be in fp8 on an {hardware.name}, whose compute capability "
            f"{hardware.capability[0]}.{hardware.capability[1]} has no eight-bit floats"
        )


def _numbers(
    hardware: Hardware, shape: ModelShape, dtype: NumberType | None, fp8_cache: bool
) -> Numbers:
    """Choose types as the engine does."""
    own = {"bfloat16": NumberType.BF16, "float16": NumberType.FP16}.get(
        shape.dtype, NumberType.FP32
    )
    if not hardware.is_gpu:
        is_large = 4 * shape.num_parameters > GIB
        fast = own is NumberType.BF16 and is_large and has_fast_bf16(hardware)
        own = NumberType.BF16 if fast else NumberType.FP32
    layers = dtype or own
    others = own if layers.num_bytes == 1 else layers
    return Numbers(
        layers=layers,
        others=others,
        cache_bytes=1 if fp8_cache else others.num_bytes,
        head_dim=0 if hardware.is_gpu else -(-shape.head_dim // _CPU_LANES) * _CPU_LANES,
    )


def _measured(hardware: Hardware, layers: NumberType) -> tuple[Measurement, ...]:
    """Return what tells most about this: on a CPU the same numbers, if there are such."""
    found = measurements(on_gpus=hardware.is_gpu)
    alike = tuple(one for one in found if one.layers is layers)
    return found if hardware.is_gpu else alike or found


def _choose(load: Load, budget: Budget | None, most: int, share: float) -> Choice | None:
    if budget is None or not budget.is_given:
        return None
    batch = largest_batch(load, most, ttft_s=budget.ttft_s, itl_s=budget.itl_s, share=share)
    return Choice(budget=budget, batch=batch, kept=load.at(batch or 1))


def _sizes(most: int, chosen: int) -> list[int]:
    powers = (1 << power for power in range(most.bit_length()))
    return sorted({*powers, most, chosen})
