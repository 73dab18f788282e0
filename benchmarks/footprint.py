"""What importing costs, and what a process of the SDK, the command line and the API holds.

    python benchmarks/footprint.py

Each import is timed in fresh processes, alternating, against an interpreter that imports nothing;
the least of the runs is what the machine's other work has added the least to. Memory is resident
memory at the end; the API's is that of a stack that answered a chat and ran a job of 2,000 rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from penstock import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.stack import Stack, running_stack

IMPORTS = {
    "nothing": "pass",
    "from penstock import Client": "from penstock import Client; Client",
    "from penstock import AsyncClient": "from penstock import AsyncClient; AsyncClient",
    "the command line": "import penstock.api.cli",
    "openai, to compare": "import openai",
}
MEASURE = (
    "import resource; {}; u = resource.getrusage(resource.RUSAGE_SELF); "
    "print(u.ru_utime + u.ru_stime, int(open('/proc/self/statm').read().split()[1]) * 4096)"
)


def one_import(statement: str) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of the processor, and MB at the end."""
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(statement)],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    cpu_s, resident_bytes = map(float, done.stdout.split())
    return time.perf_counter() - began_s, cpu_s, resident_bytes / 1e6


def api_mb(stack: Stack) -> float:
    """Resident memory of the API's process."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"api" in words and str(stack.data).encode() in (process / "environ").read_bytes():
                return int((process / "statm").read_text().split()[1]) * 4096 / 1e6
        except OSError:
            continue
    raise LookupError("no process of the API was found")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9)
    asked = parser.parse_args()
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in IMPORTS}
    for _ in range(asked.runs):
        for name, statement in IMPORTS.items():
            runs[name].append(one_import(statement))
    least = {
        name: [min(column) for column in zip(*each, strict=True)] for name, each in runs.items()
    }
    told: dict[str, object] = {
        name: {
            "clock_ms": round((clock_s - least["nothing"][0]) * 1e3),
            "processor_ms": round((cpu_s - least["nothing"][1]) * 1e3),
            "memory_mb": round(mb, 1),
        }
        for name, (clock_s, cpu_s, mb) in least.items()
    }
    with tempfile.TemporaryDirectory(prefix="ps") as folder:
        data = Path(folder) / "data"
        with running_stack(data, "--no-flower", "--model", "fake:step_ms=1;tokens=4") as stack:
            fresh_mb = api_mb(stack)
            client = Client(stack.url)
            client.chat("hello", max_tokens=2)
            rows = [{"text": str(number)} for number in range(2_000)]
            client.jobs.submit(rows, prompt="{{ row.text }}").wait()
            told["api_mb"] = {"fresh": round(fresh_mb), "after a job": round(api_mb(stack))}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
