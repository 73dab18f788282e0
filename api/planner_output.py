"""How a plan looks to a person: facts, and a table with bars in plain characters.

Each figure has its unit beside it. Refuses to compute anything that is not a plan's.
"""

from typing import Any

from .cli_output import Printer
from .hardware import Hardware
from .planner import Plan
from .planner_json import latency_as_json
from .planner_measured import OURS
from .planner_memory import GIB
from .planner_roofline import Step
from .wording import short_time

_BAR = 12  # characters of the longest: all columns fit in 80


def print_plan(printer: Printer, plan: Plan) -> None:
    """Print a plan for a person."""
    printer.facts(_facts(plan))
    median = plan.shares.median
    printer.heading(f"By batch, at {median:.0%} of the roofline")
    most_tokens = max(cost.tokens_per_s for cost in plan.sweep)
    most_itl_s = max(cost.itl_s for cost in plan.sweep)
    printer.table(
        ("batch", "tok/s", "", "ITL, ms", "", "TTFT, ms", "bound by"),
        (
            (
                f"{cost.batch:,}" + (" <" if cost.batch == plan.chosen.batch else ""),
                f"{cost.tokens_per_s * median * plan.num_devices:,.0f}",
                _bar("#", cost.tokens_per_s / most_tokens),
                f"{cost.itl_s / median * 1e3:.1f}",
                _bar("*", cost.itl_s / most_itl_s),
                f"{cost.ttft_s / median * 1e3:.1f}",
                cost.decode.bound_by,
            )
            for cost in plan.sweep
        ),
    )
    printer.heading("Measured, as a share of this roofline")
    printer.table(
        ("engine", "on", "model", "layers", "in/out", "tok/s", "share"),
        (
            (
                one.engine,
                one.hardware.name,
                one.model,
                str(one.layers),
                f"{one.work.prompt_tokens}/{one.work.answer_tokens}",
                one.tokens_per_s,
                f"{one.share:.0%}",
            )
            for one in plan.measured
        ),
    )
    if plan.hardware.is_gpu:
        printer.note(
            f"{OURS} itself: not measured yet on this GPU, nor on any; "
            "`python benchmarks/gpu_check.py` does it"
        )
    for note in plan.notes:
        printer.note(f"note: {note}")
    if plan.settings:
        printer.note("set: " + " ".join(f"{name}={value}" for name, value in plan.settings.items()))


def _facts(plan: Plan) -> list[tuple[str, Any]]:
    shape, room, work, chosen = plan.shape, plan.room, plan.work, plan.chosen
    numbers, decode = plan.roofline.numbers, chosen.decode
    devices = f"{plan.num_devices} x {plan.hardware.name}"
    return [
        (
            "model",
            f"{shape.name}: {shape.num_parameters:,} parameters, "
            f"{room.weight_bytes / 1e9:,.2f} GB with layers in {numbers.layers}",
        ),
        ("hardware", f"{devices}, each with the whole model; {_speeds(plan)}"),
        (
            "memory",
            f"{room.total_bytes / GIB:.1f} GiB: weights {room.weight_bytes / GIB:.1f}, "
            + (
                f"largest step {room.step_bytes / GIB:.1f}, graphs, driver and spare "
                f"{room.other_bytes / GIB:.1f}, "
                if plan.hardware.is_gpu
                else ""
            )
            + f"cache {room.cache_bytes / GIB:.1f}",
        ),
        (
            "cache",
            f"{room.token_bytes / 1024:,.4g} KiB per token; holds {room.cache_tokens:,} tokens; "
            f"largest batch: {plan.max_batch:,} rows of {work.row_tokens:,}",
        ),
        ("prefill step", _told(plan.prefill)),
        (f"decode step of {chosen.batch:,}", _told(decode)),
        (
            "longest step",
            f"{plan.longest_step_s * 1e3:,.4g} ms, when it is full of prompts: a row may wait so "
            "long for its next token (PENSTOCK_MAX_NUM_BATCHED_TOKENS)",
        ),
        (
            "roofline",
            f"{chosen.tokens_per_s * plan.num_devices:,.0f} tok/s, "
            f"{chosen.rows_per_s * plan.num_devices:,.4g} rows/s",
        ),
        (
            "Little's law",
            f"{chosen.batch:,} rows under way = {chosen.rows_per_s:,.4g} rows/s "
            f"x {chosen.turn_s:,.4g} s each",
        ),
        *(
            (
                f"job, {name}",
                f"{short_time(plan.least_s / share)} at {share:.0%} of the roofline"
                + _price(plan, plan.least_s / share),
            )
            for name, share in (("p50", plan.shares.median), ("p90", plan.shares.least))
        ),
        *_latency(plan),
    ]


def _speeds(plan: Plan) -> str:
    roofline = plan.roofline
    return (
        f"reads {roofline.bytes_per_s / 1e9:,.0f} GB/s, multiplies "
        f"{roofline.layer_operations_per_s / 1e12:,.3g} TFLOP/s ({plan.hardware.source})"
    )


def _told(step: Step) -> str:
    read = {
        "weights": step.weight_bytes,
        "keys and values": step.cache_bytes,
        "logits": step.logit_bytes,
    }
    parts = [f"{what} {size / 1e9:,.3g} GB" for what, size in read.items() if size]
    return (
        f"{step.seconds * 1e3:,.4g} ms, most of it {step.bound_by}: {', '.join(parts)}, "
        f"{step.operations / 1e12:,.3g} TFLOP"
    )


def _price(plan: Plan, seconds: float) -> str:
    cost, energy = plan.cost(seconds), plan.energy_kwh(seconds)
    tokens = plan.work.num_rows * plan.work.answer_tokens / 1e6
    parts = "" if cost is None else f", costs {cost:,.2f} ({cost / tokens:,.4g} per M tokens out)"
    return parts + ("" if energy is None else f", at most {energy:,.3g} kWh")


def _latency(plan: Plan) -> list[tuple[str, str]]:
    told = latency_as_json(plan)
    if plan.choice is None or told is None:
        return []
    times = f"TTFT {told['ttft_ms']:,.1f} ms, ITL {told['itl_ms']:,.1f} ms"
    if plan.choice.batch is None:
        return [("latency", f"no batch keeps it: a single row has {times}")]
    return [
        (
            "latency",
            f"kept up to a batch of {plan.choice.batch:,} ({times} at {plan.shares.least:.0%} of "
            f"the roofline), which has {told['share_of_throughput']:.0%} of the most throughput",
        )
    ]


def _bar(letter: str, share: float) -> str:
    return letter * max(1, round(_BAR * share))


def print_hardware(printer: Printer, gpus: tuple[Hardware, ...]) -> None:
    """Print a line for each GPU."""
    printer.table(
        ("GPU", "GiB", "GB/s", "bf16", "fp8", "int8", "W", "our kernels"),
        (
            (
                gpu.name,
                f"{gpu.memory_bytes / GIB:.1f}",
                f"{gpu.bytes_per_s / 1e9:,.0f}",
                *(
                    "-" if kind not in rates else f"{rates[kind] / 1e12:,.0f}"
                    for kind in ("bf16", "fp8", "int8")
                ),
                f"{gpu.watts:,.0f}" if gpu.watts else "-",
                str(gpu.support),
            )
            for gpu in gpus
            for rates in [{str(kind): rate for kind, rate in gpu.operations_per_s.items()}]
        ),
    )
    printer.note("bf16, fp8, int8: dense TFLOP/s; what programs reach is about 0.8 of it, and 0.9")
    printer.note("of GB/s. Nothing of ours has been timed on a GPU yet. Or --gpu cpu, this machine")
