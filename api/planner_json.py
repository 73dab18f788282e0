"""A plan as JSON objects. Each figure has its unit in its name; a bare name counts."""

from typing import Any

from .hardware import Hardware
from .planner import Plan
from .planner_load import BatchCost
from .planner_roofline import Step


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as one object."""
    shape, room, work, roofline = plan.shape, plan.room, plan.work, plan.roofline
    return {
        "model": shape.name,
        "parameters": shape.num_parameters,
        "layers": str(roofline.numbers.layers),
        "weight_bytes": room.weight_bytes,
        "kv_bytes_per_token": room.token_bytes,
        "hardware": plan.hardware.name,
        "devices": plan.num_devices,
        "memory_bytes": room.total_bytes,
        "step_bytes": room.step_bytes,
        "other_bytes": room.other_bytes,
        "cache_bytes": room.cache_bytes,
        "cache_tokens": room.cache_tokens,
        "rows": work.num_rows,
        "prompt_tokens": work.prompt_tokens,
        "answer_tokens": work.answer_tokens,
        "shared_tokens": work.shared_tokens,
        "max_batch": plan.max_batch,
        "batch": plan.chosen.batch,
        "prefill_step": _step_as_json(plan.prefill),
        "decode_step": _step_as_json(plan.chosen.decode),
        "roofline": {
            "tokens_per_s": round(plan.chosen.tokens_per_s * plan.num_devices, 1),
            "rows_per_s": round(plan.chosen.rows_per_s * plan.num_devices, 4),
            "row_s": round(plan.chosen.turn_s, 4),
            "longest_step_ms": round(plan.longest_step_s * 1e3, 3),
            "job_s": round(plan.least_s, 1),
        },
        "expected": [
            _expected_as_json(plan, name, share)
            for name, share in (("p50", plan.shares.median), ("p90", plan.shares.least))
        ],
        "latency": latency_as_json(plan),
        "sweep": [_cost_as_json(cost, plan.shares.median) for cost in plan.sweep],
        "measured": [
            {
                "engine": one.engine,
                "hardware": one.hardware.name,
                "model": one.model,
                "layers": str(one.layers),
                "tokens_per_s": one.tokens_per_s,
                "share_of_roofline": round(one.share, 3),
                "source": one.source,
            }
            for one in plan.measured
        ],
        "measured_here": not plan.hardware.is_gpu,
        "settings": plan.settings,
        "notes": list(plan.notes),
    }


def _step_as_json(step: Step) -> dict[str, Any]:
    return {
        "weight_bytes": round(step.weight_bytes),
        "cache_bytes": round(step.cache_bytes),
        "logit_bytes": round(step.logit_bytes),
        "operations": round(step.operations),
        "ms": round(step.seconds * 1e3, 4),
        "bound_by": step.bound_by,
    }


def _expected_as_json(plan: Plan, name: str, share: float) -> dict[str, Any]:
    seconds = plan.least_s / share
    return {
        "name": name,
        "share_of_roofline": round(share, 3),
        "tokens_per_s": round(plan.chosen.tokens_per_s * plan.num_devices * share, 1),
        "job_s": round(seconds, 1),
        "cost": _rounded(plan.cost(seconds), 2),
        "energy_kwh_at_most": _rounded(plan.energy_kwh(seconds), 3),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _cost_as_json(cost: BatchCost, share: float) -> dict[str, Any]:
    return {
        "batch": cost.batch,
        "tokens_per_s": round(cost.tokens_per_s * share, 1),
        "itl_ms": round(cost.itl_s / share * 1e3, 3),
        "ttft_ms": round(cost.ttft_s / share * 1e3, 3),
        "bound_by": cost.decode.bound_by,
    }


def latency_as_json(plan: Plan) -> dict[str, Any] | None:
    """Return what keeping the latency comes to; None if none was asked for."""
    choice = plan.choice
    if choice is None:
        return None
    best = max(cost.tokens_per_s for cost in plan.sweep)
    return {
        "batch": choice.batch,
        "share_of_roofline": round(plan.shares.least, 3),
        "ttft_ms": round(choice.kept.ttft_s / plan.shares.least * 1e3, 3),
        "itl_ms": round(choice.kept.itl_s / plan.shares.least * 1e3, 3),
        "share_of_throughput": round(choice.kept.tokens_per_s / best, 3),
    }


def hardware_as_json(gpu: Hardware) -> dict[str, Any]:
    """Return one GPU as an object."""
    return {
        "name": gpu.name,
        "memory_mib": gpu.memory_mib,
        "gb_per_s": gpu.bytes_per_s / 1e9,
        "tflops": {str(kind): rate / 1e12 for kind, rate in gpu.operations_per_s.items()},
        "watts": gpu.watts,
        "kernels": str(gpu.support),
        "source": gpu.source,
    }
