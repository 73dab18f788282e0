"""How the engine is doing, in numbers that only grow or are true right now. Knows no exporter."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """One look at an engine.

    Attributes:
        steps: steps run since the start; a loop that stands still stops counting.
        running: sequences that hold cache blocks.
        waiting: sequences that wait for room.
        kv_used_fraction: the part of the cache that running sequences hold, 0 to 1.
        prompt_tokens: prompt tokens of sequences that have started, cached ones included.
        cached_tokens: those of them that the prefix cache held already.
        generated_tokens: tokens generated.
        preemptions: times a running sequence was sent back to wait.
        errors: sequences that ended in an error.
        memory_errors: times that memory did not suffice, and a step was computed in smaller passes.
        device_steps: steps that the device laid out, computed and sampled by itself.
        host_steps: steps that the host had a part in: all, without `EngineConfig.device_steps`;
            with it, those with a row that the device does not serve, and those that it failed.
        device_errors: steps that the device failed to begin. The host computed them, more slowly.
        capture_errors: captures that failed, after which steps are launched piece by piece.
    """

    steps: int
    running: int
    waiting: int
    kv_used_fraction: float
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    preemptions: int
    errors: int
    memory_errors: int = 0
    device_steps: int = 0
    host_steps: int = 0
    device_errors: int = 0
    capture_errors: int = 0


@dataclass(slots=True)
class EngineCounters:
    """What the engine counts as it goes."""

    steps: int = 0
    generated_tokens: int = 0
    errors: int = 0
