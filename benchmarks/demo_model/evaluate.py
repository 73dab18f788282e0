"""Measure the demo model on held-out tasks: exact accuracy per kind of task, decoding greedily.

    python benchmarks/demo_model/evaluate.py --tasks 800
    python benchmarks/demo_model/evaluate.py --tasks 800 --engine penstock -o json
    python benchmarks/demo_model/evaluate.py --tasks 800 --engine penstock --quantization int8
    python benchmarks/demo_model/evaluate.py --tasks 800 --engine penstock --kv-cache-dtype fp8_e4m3

Knows tasks and two ways of answering them; by default `transformers` in float32, so that the
figures say something about the model and nothing about Penstock's engine.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from penstock.api.demo_tasks import SPLITS, DemoTask, Kind, Split, is_correct, load

MAX_ANSWER_TOKENS = 192
BATCH_SIZE = 64
NUM_SAMPLES = 3
GRADED_KINDS: tuple[Kind, ...] = ("extract", "classify", "add")

Answerer = Callable[[list[DemoTask]], list[str]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A task that was answered wrongly."""

    prompt: str
    wanted: str
    got: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many tasks of one kind were answered exactly."""

    kind: Kind
    num_tasks: int
    num_correct: int
    mistakes: tuple[Mistake, ...]

    @property
    def fraction(self) -> float:
        return self.num_correct / self.num_tasks


def transformers_answerer(model_path: str) -> Answerer:
    """Answer with `transformers` in float32, in left-padded batches."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)

    def answer_batch(tasks: list[DemoTask]) -> list[str]:
        inputs = tokenizer.apply_chat_template(
            [task.messages() for task in tasks],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            outputs = model.generate(**inputs, max_new_tokens=MAX_ANSWER_TOKENS)
        num_prompt_tokens = inputs["input_ids"].shape[1]
        return tokenizer.batch_decode(outputs[:, num_prompt_tokens:], skip_special_tokens=True)

    def answer(tasks: list[DemoTask]) -> list[str]:
        starts = range(0, len(tasks), BATCH_SIZE)
        return [text for i in starts for text in answer_batch(tasks[i : i + BATCH_SIZE])]

    return answer


def penstock_answerer(model: str, **options: Any) -> Answerer:
    """Answer with Penstock's own engine."""
    from penstock import LLM, SamplingParams  # only here, so that the default needs no engine

    llm = LLM(model=model, **options)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_ANSWER_TOKENS)

    def answer(tasks: list[DemoTask]) -> list[str]:
        outputs = llm.chat([task.messages() for task in tasks], sampling)
        return [output.outputs[0].text for output in outputs]

    return answer


def evaluate(num_tasks: int, seed: int, split: Split, answer: Answerer) -> list[Accuracy]:
    """Answer `num_tasks` of each kind that has a truth, and count what is right."""
    accuracies = []
    for kind in GRADED_KINDS:
        tasks = load(num_tasks, seed, split, [kind])
        outputs = answer(tasks)
        graded = [
            (task, output, is_correct(task, output))
            for task, output in zip(tasks, outputs, strict=True)
        ]
        num_correct = sum(right for _, _, right in graded)
        mistakes = tuple(
            Mistake(task.prompt, task.example, output)
            for task, output, right in graded
            if not right
        )
        accuracies.append(Accuracy(kind, num_tasks, num_correct, mistakes))
    return accuracies


def print_table(accuracies: list[Accuracy], stories: list[str], console: Console) -> None:
    """Show the accuracies, a few mistakes and a few stories."""
    table = Table("kind", "tasks", "exact", title="demo model, greedy")
    for accuracy in accuracies:
        table.add_row(accuracy.kind, str(accuracy.num_tasks), f"{accuracy.fraction:.1%}")
    console.print(table)
    for accuracy in accuracies:
        for mistake in accuracy.mistakes[:NUM_SAMPLES]:
            console.print(f"[red]{accuracy.kind}[/] {mistake.prompt}", highlight=False)
            console.print(f"    wanted {mistake.wanted}", highlight=False)
            console.print(f"    got    {mistake.got}", highlight=False)
    for story in stories:
        console.print(f"[green]story[/] {story}", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="engine/demo_model", help="a checkpoint's directory")
    parser.add_argument("--engine", choices=("transformers", "penstock"), default="transformers")
    parser.add_argument("--dtype", default="float32", help="of Penstock's engine")
    parser.add_argument("--quantization", default="none", help="of Penstock's engine")
    parser.add_argument("--kv-cache-dtype", default="auto", help="of Penstock's engine")
    parser.add_argument("--tasks", type=int, default=300, help="how many of each kind")
    parser.add_argument("--split", choices=SPLITS, default="heldout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()

    if arguments.engine == "penstock":
        answer = penstock_answerer(
            arguments.model,
            dtype=arguments.dtype,
            quantization=arguments.quantization,
            kv_cache_dtype=arguments.kv_cache_dtype,
        )
    else:
        answer = transformers_answerer(arguments.model)
    started_at = time.monotonic()
    accuracies = evaluate(arguments.tasks, arguments.seed, arguments.split, answer)
    elapsed_s = time.monotonic() - started_at
    if arguments.output == "json":
        exact = {accuracy.kind: accuracy.fraction for accuracy in accuracies}
        report = {"engine": arguments.engine, "tasks": arguments.tasks, "split": arguments.split}
        print(json.dumps(report | {"exact": exact, "elapsed_s": round(elapsed_s, 1)}))
        return
    stories = answer(load(NUM_SAMPLES, arguments.seed, arguments.split, ["story"]))
    print_table(accuracies, stories, Console())


if __name__ == "__main__":
    main()
