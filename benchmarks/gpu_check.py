"""Does the engine work on this GPU, and how near to its limits? One call of under nine minutes.

    python benchmarks/gpu_check.py [--seconds 530] [--out gpu_check.json] [--parts kernels rates …]
    python benchmarks/gpu_check.py --device cpu --tiny        does the check itself run?

Needs torch, triton, transformers, tokenizers and safetensors; no network, no Redis, no weights, no
installation: models are random, in the shapes of Qwen2.5-0.5B, Qwen3-0.6B and Llama-3.1-8B. Each
part is a process of its own with a time limit: one that fails or hangs is reported, and the rest
goes on.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Task:
    """One part to run: a file in `gpu_parts`, its choice, and the seconds it may take."""

    part: str
    choice: str
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.part} {self.choice}".strip()


# What matters most comes first: the last ones get what time is left.
TASKS = [
    Task("rates", "", 50),
    Task("kernels", "", 110),
    Task("equality", "", 45),
    Task("steps", "", 60),
    Task("throughput", "Qwen3-0.6B", 75),
    Task("throughput", "Llama-3.1-8B", 105),
    Task("throughput", "Qwen2.5-0.5B", 60),
    Task("latency", "", 45),
    Task("peers", "Qwen3-0.6B", 50),
    Task("peers", "Llama-3.1-8B", 50),
    Task("peers", "Qwen2.5-0.5B", 50),
]


def run(task: Task, seconds: float, given: argparse.Namespace, path: str) -> dict[str, Any]:
    """Return a part's findings, whatever became of it."""
    command = [
        sys.executable, str(HERE / "gpu_parts" / f"{task.part}.py"), "--device", given.device,
        "--seconds", str(seconds - 12), "--seed", str(given.seed), "--choice", task.choice,
        *(["--tiny"] if given.tiny else []),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    if given.device == "cpu":
        environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        process = subprocess.Popen(command, stdout=said, stderr=complained, env=environment)
        try:
            ending = f"exit status {process.wait(timeout=seconds)}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ending = f"stopped after {seconds:.0f} s"
        said.seek(0)
        complained.seek(0)
        lines = [line for line in said if line.startswith("{")]
        complaint = complained.read()[-1500:]
    findings = [json.loads(line) for line in lines if line.endswith("}\n")]
    result: dict[str, Any] = {"ending": ending, "took_s": round(time.monotonic() - began, 1)}
    result["findings"] = findings
    if ending != "exit status 0":
        result["stderr"] = complaint
    return result


def print_table(results: dict[str, Any]) -> None:
    """Print a line for each finding."""
    for part, result in results.items():
        print(f"\n{part}: {result['ending']}, {result['took_s']} s")
        for finding in result["findings"]:
            figures = {k: v for k, v in finding.items() if k not in ("name", "where", "took_s")}
            shown = "  ".join(f"{k} {_short(v)}" for k, v in figures.items())
            print(f"  {finding['name']:<34} {shown}"[:200])


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


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
    deadline = time.monotonic() + given.seconds
    results: dict[str, Any] = {}
    report = {"seed": given.seed, "python": platform.python_version(), "parts": results}
    with tempfile.TemporaryDirectory() as directory:
        # The repository's root is the package, whatever its folder is called here.
        (Path(directory) / "penstock").symlink_to(HERE.parent)
        for task in TASKS:
            left = deadline - time.monotonic()
            if given.parts and task.part not in given.parts:
                continue
            if left < 20:
                results[task.name] = {"ending": "no time left", "took_s": 0, "findings": []}
                continue
            results[task.name] = run(task, min(task.seconds, left), given, directory)
            given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print_table(results)
    findings = [finding for result in results.values() for finding in result["findings"]]
    failed = [f["name"] for f in findings if "error" in f or f.get("passed") is False]
    failed += [name for name, result in results.items() if result["ending"] != "exit status 0"]
    print(f"\n{len(findings)} findings in {given.out}; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
