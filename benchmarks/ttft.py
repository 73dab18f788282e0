"""How long a chat waits for its first token: alone, and while a bulk job fills the engine.

    python benchmarks/ttft.py --chats 50
    python benchmarks/ttft.py --model 'fake:step_ms=5;tokens=16'   # the queue's own share

Starts the whole stack, streams chats one after the other over real HTTP, then again while a job
of `--rows` rows runs, and reports the time to the first frame that carries text, in milliseconds.
For the demo model and real ones the engine's own time to first token (`LLM.generate` of one token,
same prompt, no queue) is measured in this process first, so that the difference is the price of
API and queue. The chats differ in their last words only, as chats with one system prompt do.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from penstock import Client
from penstock.jobs.settings import DEMO_MODEL

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.stack import Stack, running_stack

WARM_UP = 5


def ask(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Add {number % 90 + 10} and {number % 7 + 1}."}]


def summary(samples_s: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(samples_s, n=100, method="inclusive")
    return {
        name: round(value * 1000, 2)
        for name, value in (("p50_ms", cuts[49]), ("p95_ms", cuts[94]), ("max_ms", max(samples_s)))
    }


def engine_alone(model: str, chats: int) -> dict[str, float]:
    from penstock import LLM, SamplingParams  # loads torch

    llm = LLM(model=model)
    params = SamplingParams(temperature=0, max_tokens=1)
    samples_s = []
    for number in range(WARM_UP + chats):
        started_s = time.perf_counter()
        llm.chat([ask(number)], params, progress=False)
        samples_s.append(time.perf_counter() - started_s)
    return summary(samples_s[WARM_UP:])


def has_text(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return bool(choices and choices[0]["delta"]["content"])


def through_the_queue(http: httpx2.Client, model: str, chats: int) -> dict[str, float]:
    samples_s = []
    for number in range(WARM_UP + chats):
        body = {"model": model, "messages": ask(number), "max_tokens": 8, "stream": True}
        started_s = time.perf_counter()
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            first_s = None
            for line in answer.iter_lines():
                if first_s is None and has_text(line):
                    first_s = time.perf_counter() - started_s
        if first_s is None:
            sys.exit(f"chat {number} brought no text")
        samples_s.append(first_s)
    return summary(samples_s[WARM_UP:])


def while_a_job_runs(
    stack: Stack, http: httpx2.Client, model: str, chats: int, rows: int
) -> dict[str, float]:
    job = Client(stack.url).jobs.submit(
        ({"n": number} for number in range(rows)),
        model=model,
        prompt="Tell a story about the number {{ row.n }}.",
        sampling={"max_tokens": 64, "ignore_eos": not model.startswith("fake:")},
    )
    while not job.refresh().counts.succeeded:
        time.sleep(0.1)
    found = through_the_queue(http, model, chats)
    if job.refresh().status.is_final:
        sys.exit(f"the job of {rows} rows ended before the chats did; ask for more with --rows")
    job.cancel()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--chats", type=int, default=50)
    parser.add_argument("--rows", type=int, default=20_000)
    asked = parser.parse_args()
    report: dict[str, object] = {"model": asked.model, "chats": asked.chats}
    if not asked.model.startswith("fake:"):
        report["engine alone"] = engine_alone(asked.model, asked.chats)
    with (
        tempfile.TemporaryDirectory(prefix="ps") as folder,
        running_stack(Path(folder) / "data", "--no-flower", "--model", asked.model) as stack,
        httpx2.Client(base_url=stack.url, timeout=120) as http,
    ):
        report["idle"] = through_the_queue(http, asked.model, asked.chats)
        report["under bulk"] = while_a_job_runs(stack, http, asked.model, asked.chats, asked.rows)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
