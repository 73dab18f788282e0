"""What the queue costs: a bulk job through the whole stack against the engine alone, same rows.

    python benchmarks/stack_vs_engine.py --rows 4000 --rounds 3

One round runs the rows through `LLM.chat` in this process, then through `penstock up` (API, Redis,
Celery, the engine's process, Parquet) as one job, timed from the submit to the last committed row
as the server recorded both. Greedy decoding on the demo model; the engines are set alike and warm,
and only one of them works at a time. The texts must be equal, row by row.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from penstock import LLM, Client, SamplingParams
from penstock.api import demo_tasks
from penstock.jobs.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.stack import running_stack

SAMPLING = {"temperature": 0, "max_tokens": 64}


def run_alone(llm: LLM, prompts: list[str]) -> tuple[float, list[str], int]:
    started = time.perf_counter()
    outputs = llm.chat(
        [[{"role": "user", "content": prompt}] for prompt in prompts],
        SamplingParams.from_mapping(SAMPLING),
        progress=False,
    )
    seconds = time.perf_counter() - started
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return seconds, [output.outputs[0].text for output in outputs], tokens


def run_through(client: Client, prompts: list[str]) -> tuple[float, list[str]]:
    started = time.perf_counter()
    job = client.jobs.submit(
        [{"ask": prompt} for prompt in prompts], prompt="{{ row.ask }}", sampling=SAMPLING
    )
    job.wait(progress=False)
    seconds = time.perf_counter() - started
    return seconds, [row["output"] for row in job.results()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    settings = Settings()
    llm = LLM(
        model="penstock-demo",
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens or 0,
    )
    rounds = []
    with (
        tempfile.TemporaryDirectory(prefix="ps") as home,
        running_stack(Path(home) / "data", "--no-flower") as stack,
    ):
        client = Client(stack.url, timeout_s=600)
        run_through(client, [task.prompt for task in demo_tasks.load(200, 0, "train")])
        run_alone(llm, [task.prompt for task in demo_tasks.load(200, 0, "train")])
        for number in range(asked.rounds):
            tasks = demo_tasks.load(asked.rows, seed=100 + number, split="heldout")
            prompts = [task.prompt for task in tasks]
            alone_s, alone_texts, tokens = run_alone(llm, prompts)
            through_s, through_texts = run_through(client, prompts)
            if alone_texts != through_texts:
                sys.exit("the stack and the engine disagree about a row's text")
            rounds.append(
                {
                    "alone_tokens_per_s": round(tokens / alone_s),
                    "stack_tokens_per_s": round(tokens / through_s),
                    "ratio": round(alone_s / through_s, 3),
                }
            )
            print(json.dumps(rounds[-1]), flush=True)
    ratio = statistics.median(item["ratio"] for item in rounds)
    print(json.dumps({"rows": asked.rows, "rounds": asked.rounds, "median_ratio": ratio}))


if __name__ == "__main__":
    main()
