"""What every part of the check on a GPU shares: its options, and how it tells what it finds.

A finding is one line of JSON on stdout, told at once: a part that dies leaves what it found so far.
"""

import argparse
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Part:
    """One part's options.

    Attributes:
        tiny: shapes that a CPU can do, to see that the check itself runs.
        deadline: of `time.monotonic`, past which nothing new is begun.
        choice: which of its things the part is to do, if it has a choice.
    """

    device: torch.device
    tiny: bool
    deadline: float
    seed: int
    choice: str

    @classmethod
    def from_command_line(cls) -> "Part":
        parser = argparse.ArgumentParser()
        parser.add_argument("--device", default="cuda")
        parser.add_argument("--tiny", action="store_true")
        parser.add_argument("--seconds", type=float, default=60.0)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--choice", default="")
        given = parser.parse_args()
        torch.manual_seed(given.seed)
        deadline = time.monotonic() + given.seconds
        return cls(torch.device(given.device), given.tiny, deadline, given.seed, given.choice)

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def has_eight_bits(self) -> bool:
        """Whether the device has eight-bit floats; a CPU's are made up."""
        return self.device.type == "cpu" or torch.cuda.get_device_capability() >= (8, 9)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def attempt(self, name: str, action: Callable[[], dict[str, Any]]) -> None:
        """Tell what an action finds, or how it failed, or that there was no time for it."""
        if self.seconds_left <= 0:
            tell(name, skipped="no time left")
            return
        began = time.monotonic()
        try:
            found = action()
            self.synchronize()
            tell(name, **found, took_s=round(time.monotonic() - began, 2))
        except Exception as error:
            lines = traceback.format_exc().strip().splitlines()
            tell(name, error=f"{type(error).__name__}: {error}"[:600], where=lines[-8:])


def tell(name: str, **figures: Any) -> None:
    """Print one finding."""
    print(json.dumps({"name": name, **figures}), flush=True)
