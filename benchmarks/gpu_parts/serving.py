"""A job's run through an engine, and what it cost: by the clock, by the host, by the device.

Knows engines and their work. Refuses to know which figures matter.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from part import Part
from shapes import Work
from torch.profiler import ProfilerActivity, profile

from penstock.engine.engine import Engine
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams

_PROFILED_STEPS = 50
_SETTLING_STEPS = 40  # after the last arrival: more than a capture waits for
_TINY_STEPS = 4  # instead of either
_LARGEST = 6  # kernels that a profile names
_DEVICE_KINDS = {"kernel", "gpu_memcpy", "gpu_memset"}


def requests_of(work: Work, name: str) -> Iterator[Request]:
    for number, (prompt, length) in enumerate(zip(work.prompts, work.lengths, strict=True)):
        params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
        yield Request(f"{name}-{number}", prompt, params, stream_interval=0)


def add(engine: Engine, work: Work, name: str) -> list[str]:
    asked = [*requests_of(work, name)]
    for request in asked:
        refused = engine.add(request)
        assert refused is None, refused
    return [request.request_id for request in asked]


def clear(part: Part, engine: Engine, names: list[str]) -> None:
    """Take back what is not done yet, and see that nothing is left of it."""
    for name in names:
        engine.abort(name)
    while engine.has_work:
        engine.step()
    part.synchronize()
    engine.check()


def serve(part: Part, engine: Engine, work: Work, name: str) -> dict[str, Any]:
    """Work until all is done, or as long as there is time."""
    names = add(engine, work, name)
    before, steps = engine.stats().generated_tokens, engine.stats().steps
    done = 0
    part.synchronize()
    began, host_s, own_s = time.perf_counter(), time.process_time(), time.thread_time()
    while engine.has_work and part.seconds_left > 0:
        for output in engine.step():
            assert output.error is None, output.error
            done += output.finish_reason is not None
    part.synchronize()
    took = time.perf_counter() - began
    host_s, own_s = time.process_time() - host_s, time.thread_time() - own_s
    generated = engine.stats().generated_tokens - before
    num_steps = max(1, engine.stats().steps - steps)
    clear(part, engine, names)
    return {
        "tokens_per_s": generated / took,
        "seconds": took,
        "tokens": generated,
        "complete": done == len(names),
        "ms_per_step": 1000 * took / num_steps,
        "host_ms_per_step": 1000 * host_s / num_steps,
        "scheduler_ms_per_step": 1000 * own_s / num_steps,
    }


def profiled(part: Part, engine: Engine, work: Work, name: str) -> dict[str, Any]:
    """Return how long the device idles in some steps of all rows, and what keeps it busy.

    On a CPU, where there is no device, PyTorch's own operations stand in.
    """
    on_gpu = part.device.type == "cuda"
    kind = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    settling, num_steps = _SETTLING_STEPS, _PROFILED_STEPS
    if part.tiny:
        settling = num_steps = _TINY_STEPS
    names = add(engine, work, name)
    while engine.has_work and engine.num_waiting and part.seconds_left > 0:
        engine.step()
    for _ in range(settling):
        engine.step()
    part.synchronize()
    with profile(activities=[kind]) as found:
        for _ in range(num_steps):
            engine.step()
        part.synchronize()
    clear(part, engine, names)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
    kinds = _DEVICE_KINDS if on_gpu else {"cpu_op"}
    return busy_share([event for event in events if event.get("cat") in kinds], num_steps)


def busy_share(events: list[dict[str, Any]], num_steps: int) -> dict[str, Any]:
    """Return the share of time in which none of the events goes on, and the longest of them.

    Events have a beginning `ts` and a duration `dur`, in microseconds; they may overlap.
    """
    if not events:
        raise ValueError("the profile has no event of the device")
    spans = sorted((float(event["ts"]), float(event["dur"])) for event in events)
    busy, end = 0.0, spans[0][0]
    for begin, duration in spans:
        busy += max(0.0, begin + duration - max(begin, end))
        end = max(end, begin + duration)
    spent = Counter[str]()
    for event in events:
        spent[event["name"]] += event["dur"]
    total = end - spans[0][0]
    return {
        "idle": 1 - busy / total if total else 0.0,
        "ms_per_step": total / 1000 / num_steps,
        "events_per_step": len(events) / num_steps,
        "largest": {
            event[:48]: round(duration / total, 3)
            for event, duration in spent.most_common(_LARGEST)
        },
    }


def memory(part: Part) -> dict[str, float]:
    """Return what PyTorch has taken of the device at most, and what is free now, in GiB."""
    if part.device.type != "cuda":
        return {}
    free, _ = torch.cuda.mem_get_info()
    return {
        "reserved_gib": torch.cuda.memory_reserved() / 2**30,
        "peak_reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
        "free_gib": free / 2**30,
    }
