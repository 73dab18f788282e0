"""What the queue costs: a bulk job through the whole stack against the engine alone, same rows.

    python benchmarks/stack_vs_engine.py --rows 4000 --rounds 3
    python benchmarks/stack_vs_engine.py --rows 256 --rounds 3 --model DIRECTORY

One round runs the rows through `LLM.chat` in this process, then through `penstock up` (API, Redis,
Celery, the engine's process, Parquet) as one job, timed from the submit to the last committed row
as the server recorded both. Greedy decoding; the engines are set alike and warm, and only one of
them works at a time. On the demo model, in float32, the texts must be equal, row by row; in
bfloat16 near ties fall as rows happen to be batched.

The rows are short tasks for the demo model; for another model some 128 tokens of random text each,
answered with 64 tokens.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penstock import LLM, Client, SamplingParams
from penstock.api import demo_tasks
from penstock.jobs.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.stack import running_stack

DEMO = "penstock-demo"
TOKENS_IN, TOKENS_OUT = 128, 64
ENDPOINT = "/v1/completions"
Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Work:
    """How the rows are asked: the demo's as chats, others as plain prompts of a fixed length."""

    model: str

    @property
    def sampling(self) -> dict[str, Any]:
        ignores_end = {} if self.model == DEMO else {"ignore_eos": True}
        return {"temperature": 0, "max_tokens": TOKENS_OUT, **ignores_end}

    def prompts(self, llm: LLM, num_rows: int, seed: int, split: Split) -> list[str]:
        if self.model == DEMO:
            return [task.prompt for task in demo_tasks.load(num_rows, seed=seed, split=split)]
        chance, tokenizer = random.Random(f"{split}{seed}"), llm.tokenizer
        ids = [[chance.randint(100, 10_000) for _ in range(TOKENS_IN)] for _ in range(num_rows)]
        return [tokenizer.decode(each) for each in ids]

    def run_alone(self, llm: LLM, prompts: list[str]) -> tuple[float, list[str], int]:
        params = SamplingParams.from_mapping(self.sampling)
        started = time.perf_counter()
        if self.model == DEMO:
            chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
            outputs = llm.chat(chats, params, progress=False)
        else:
            outputs = llm.generate(prompts, params, progress=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        return seconds, [output.outputs[0].text for output in outputs], tokens

    def run_through(self, client: Client, prompts: list[str]) -> tuple[float, list[str]]:
        started = time.perf_counter()
        job = client.jobs.submit(
            [{"ask": prompt} for prompt in prompts],
            prompt="{{ row.ask }}",
            sampling=self.sampling,
            endpoint=None if self.model == DEMO else ENDPOINT,
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
    parser.add_argument("--model", default=DEMO)
    asked = parser.parse_args()
    settings, work = Settings(), Work(asked.model)
    llm = LLM(
        model=asked.model,
        max_num_seqs=settings.max_num_seqs or 0,
        max_num_batched_tokens=settings.max_num_batched_tokens or 0,
    )
    rounds = []
    with (
        tempfile.TemporaryDirectory(prefix="ps") as home,
        running_stack(Path(home) / "data", "--no-flower", "--model", asked.model) as stack,
    ):
        client = Client(stack.url, timeout_s=600)
        first = work.prompts(llm, min(asked.rows, 200), 0, "train")
        work.run_through(client, first)
        work.run_alone(llm, first)
        for number in range(asked.rounds):
            prompts = work.prompts(llm, asked.rows, 100 + number, "heldout")
            alone_s, alone_texts, tokens = work.run_alone(llm, prompts)
            through_s, through_texts = work.run_through(client, prompts)
            pairs = zip(alone_texts, through_texts, strict=True)
            num_same = sum(alone == through for alone, through in pairs)
            if num_same < asked.rows and asked.model == DEMO:
                sys.exit("the stack and the engine disagree about a row's text")
            rounds.append(
                {
                    "alone_tokens_per_s": round(tokens / alone_s),
                    "stack_tokens_per_s": round(tokens / through_s),
                    "ratio": round(alone_s / through_s, 3),
                    "same_rows": num_same,
                }
            )
            print(json.dumps(rounds[-1]), flush=True)
    ratio = statistics.median(item["ratio"] for item in rounds)
    print(json.dumps({"rows": asked.rows, "rounds": asked.rounds, "median_ratio": ratio}))


if __name__ == "__main__":
    main()
