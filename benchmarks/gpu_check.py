"""Does the engine work on this GPU, and how near to its limits? One call of under nine minutes.

    python benchmarks/gpu_check.py [--seconds 530] [--out gpu_check.json] [--parts rates tokens …]
    python benchmarks/gpu_check.py --device cpu --tiny        does the check itself run?

Needs torch, triton, transformers, tokenizers and safetensors; no network, no Redis, no weights, no
installation: models are random, in the shapes of Qwen2.5-0.5B, Qwen3-0.6B and Llama-3.1-8B. Each
part is a process of its own with a time limit: one that fails or hangs is reported, and the rest
goes on. Parts that only ask whether things are right, or compile kernels for those that come after,
run side by side; whatever is timed has the machine to itself.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gpu_parts.targets import table

HERE = Path(__file__).resolve().parent
_LEAST_S = 20  # of a part: less is not worth starting its process
_LOOK_S = 0.1  # between two looks at what runs
_TINY_TIMES = 20  # as long as on a GPU may a tiny part take, on whatever machine it is tried
_PARTING_S = 12  # between a part's own deadline and its end, for what it has begun


@dataclass(frozen=True)
class Task:
    """One part to run: a file in `gpu_parts`, its choice, and the seconds it may take."""

    part: str
    choice: str
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.part} {self.choice}".strip()


# Waves, one after the other; the tasks of one run side by side. What matters most comes first: the
# last ones get what time is left.
WAVES: tuple[tuple[Task, ...], ...] = (
    (
        Task("attention_twins", "decode", 100),
        Task("attention_twins", "prefill", 100),
        Task("attention_twins", "shared", 100),
        Task("layer_twins", "", 100),
        Task("sampling_twins", "", 100),
        Task("equality", "", 100),
        Task("tokens", "", 100),
        Task("rates", "compile", 100),
        Task("compile", "Qwen3-0.6B", 100),
        Task("compile", "Llama-3.1-8B", 100),
        Task("compile", "Qwen2.5-0.5B", 100),
    ),
    (Task("rates", "", 40),),
    (Task("throughput", "Qwen3-0.6B", 65),),
    (Task("throughput", "Llama-3.1-8B", 95),),
    (Task("shared", "", 45),),
    (Task("throughput", "Qwen2.5-0.5B", 35),),
    (Task("throughput", "Qwen3-0.6B fp8", 30),),
    (Task("latency", "", 30),),
    (Task("peers", "Qwen3-0.6B", 30),),
    (Task("steps", "", 25),),
    (Task("peers", "Llama-3.1-8B", 30),),
)


def budget_s(waves: Sequence[Sequence[Task]]) -> float:
    """Return the seconds that all waves may take together."""
    return sum(max(task.seconds for task in wave) for wave in waves)


class Process:
    """A part that runs, and what it says."""

    def __init__(self, task: Task, seconds: float, given: argparse.Namespace, path: Path) -> None:
        command = [
            sys.executable, str(HERE / "gpu_parts" / f"{task.part}.py"), "--device", given.device,
            "--seconds", str(max(1.0, seconds - _PARTING_S)), "--seed", str(given.seed),
            "--choice", task.choice, *(["--tiny"] if given.tiny else []),
        ]  # fmt: skip
        self.task = task
        self._seconds = seconds
        self._began = time.monotonic()
        self._said: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `finish` closes it
        self._complained: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - so too
        self._process = subprocess.Popen(
            command,
            stdout=self._said,
            stderr=self._complained,
            env=environment(given.device, path),
            start_new_session=True,
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or must."""
        is_late = time.monotonic() > self._began + self._seconds
        return is_late or self._process.poll() is not None

    def finish(self) -> dict[str, Any]:
        """Bring its end about if need be, and return its findings whatever became of it."""
        ending = f"exit status {self._process.poll()}"
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it may have compilers at work
            self._process.wait()
            ending = f"stopped after {self._seconds:.0f} s"
        with self._said, self._complained:
            self._said.seek(0)
            self._complained.seek(0)
            findings = [found for line in self._said if (found := finding_of(line)) is not None]
            complaint = self._complained.read()[-2000:]
        took_s = round(time.monotonic() - self._began, 1)
        result: dict[str, Any] = {"ending": ending, "took_s": took_s, "findings": findings}
        if complaint:
            result["stderr"] = complaint
        return result


def environment(device: str, path: Path) -> Mapping[str, str]:
    """Return the environment of parts: no network, and one cache of compiled kernels for all."""
    paths = os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))
    made = os.environ | {"PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false"}
    made |= {"HF_HUB_OFFLINE": "1", "TRITON_CACHE_DIR": str(path / "triton")}
    if device == "cpu":
        made |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return made


def finding_of(line: str) -> dict[str, Any] | None:
    """Return what a part told in a line; None for other noise, or a line that was cut off."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "name" in found else None


def run(
    waves: Sequence[Sequence[Task]], given: argparse.Namespace, path: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run wave after wave; yield each part's name and what it brought."""
    deadline = time.monotonic() + given.seconds
    for wave in waves:
        left = deadline - time.monotonic()
        if left < _LEAST_S:
            for task in wave:
                yield task.name, {"ending": "no time left", "took_s": 0, "findings": []}
            continue
        times = _TINY_TIMES if given.tiny else 1
        running = [Process(task, min(times * task.seconds, left), given, path) for task in wave]
        while running:
            for process in [process for process in running if process.is_over]:
                running.remove(process)
                yield process.task.name, process.finish()
            time.sleep(_LOOK_S)


def chosen(waves: Sequence[Sequence[Task]], parts: Sequence[str]) -> list[list[Task]]:
    """Return the waves' tasks whose part or whole name is among `parts`; all if that is empty."""
    wanted = [
        [task for task in wave if not parts or task.part in parts or task.name in parts]
        for wave in waves
    ]
    return [wave for wave in wanted if wave]


def print_findings(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line for each finding."""
    for part, result in results.items():
        print(f"\n{part}: {result['ending']}, {result['took_s']} s")
        if result["ending"] != "exit status 0":
            print("  " + "\n  ".join(result.get("stderr", "").splitlines()[-6:]))
        for finding in result["findings"]:
            figures = {k: v for k, v in finding.items() if k not in ("name", "where", "took_s")}
            shown = "  ".join(f"{k} {_short(v)}" for k, v in figures.items())
            print(f"  {finding['name']:<34} {shown}"[:240])


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def faults(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of parts that came to a bad end, and of findings that are errors."""
    failed: list[str] = []
    for part, result in results.items():
        if result["ending"] != "exit status 0":
            failed.append(part)
        failed += [
            f"{part}: {finding['name']}"
            for finding in result["findings"]
            if "error" in finding or finding.get("passed") is False
        ]
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=530.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--parts", nargs="*", default=[])
    given = parser.parse_args()
    results: dict[str, Any] = {}
    report = {"seed": given.seed, "python": platform.python_version(), "parts": results}
    with tempfile.TemporaryDirectory() as directory:
        # The repository's root is the package, whatever its folder is called here.
        (Path(directory) / "penstock").symlink_to(HERE.parent)
        for name, result in run(chosen(WAVES, given.parts), given, Path(directory)):
            results[name] = result
            print(f"{name}: {result['ending']}, {result['took_s']} s", flush=True)
            given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
        report["kernels_compiled"] = len([*Path(directory).glob("triton/*/*.cubin")])
    report["targets"] = lines = table(results)
    given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    failed = faults(results)
    print_findings(results)
    print("\n" + "\n".join(lines))
    num_findings = sum(len(result["findings"]) for result in results.values())
    print(f"\n{num_findings} findings in {given.out}; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
