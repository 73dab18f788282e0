"""The five workflows under tests/workflows, each as it stands, on the demo model: real results."""

import os
import random
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from penstock import Client, Workflow
from penstock.api import demo_tasks, demo_words as words
from penstock.api.workflow_run import WorkflowRun
from tests.waiting import wait_for

from .stack import Stack, running_stack

WORKFLOWS = Path(__file__).parents[1] / "workflows"
DEMO_MODEL = Path(__file__).parents[2] / "engine" / "demo_model"


@pytest.fixture(scope="module")
def worse_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with noise on its weights: a second model, and not as good."""
    path: Path = tmp_path_factory.mktemp("models") / "worse"
    shutil.copytree(DEMO_MODEL, path, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    weights = load_file(path / "model.safetensors")
    noise = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        scale = 0.35 * weight.float().std()
        noisy = weight.float() + scale * torch.randn(weight.shape, generator=noise)
        weights[name] = noisy.to(weight.dtype)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, worse_model: Path) -> Iterator[Stack]:
    data: Path = tmp_path_factory.mktemp("workflows")
    models = ("--model", "penstock-demo", "--model", str(worse_model))
    with running_stack(data, "--no-flower", *models) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client


def run(client: Client, name: str, rows: list[dict[str, Any]], **params: Any) -> WorkflowRun:
    workflow = Workflow.load(WORKFLOWS / f"{name}.yaml")
    [input_name] = workflow.inputs
    found = client.workflows.run(workflow, {input_name: rows}, params=params, use_cache=False)
    return found.wait(timeout_s=300)


def pairs(count: int) -> list[dict[str, int]]:
    rng = random.Random(7)
    return [{"a": rng.randint(2, 99), "b": rng.randint(2, 99)} for _ in range(count)]


def test_synthetic_data_is_what_the_judge_agrees_with(client: Client) -> None:
    found = run(client, "synthetic", pairs(40))
    drawn, kept = list(found.step_rows("answer")), list(found.results())
    assert len(drawn) == 40 * 4
    assert len({(row["a"], row["b"], row["answer"].strip()) for row in drawn}) == (
        found.step("once").rows_out
    )
    assert all(row["answer"].strip() == str(int(row["judge_value"])) for row in kept)
    assert len({(row["a"], row["b"]) for row in kept}) == len(kept)

    def precision(rows: list[Any]) -> float:
        return sum(row["answer"].strip() == str(row["a"] + row["b"]) for row in rows) / len(rows)

    assert precision(drawn) < 1  # or the judge would have had nothing to do
    assert precision(kept) > precision(drawn)
    assert precision(kept) > 0.9
    assert len(kept) > 30


def test_extraction_follows_its_schema_and_its_text(client: Client) -> None:
    rng = random.Random(3)
    truths = [
        {
            "customer": f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.LAST_NAMES)}",
            "quantity": rng.randint(2, 99),
            "item": f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.ITEMS)}",
            "city": rng.choice(words.CITIES),
        }
        for _ in range(40)
    ]
    template = "{customer} ordered {quantity} {item} for delivery to {city}."
    found = run(client, "extraction", [{"text": template.format(**truth)} for truth in truths])
    rows = list(found.results())
    assert all(row["order"]["customer"] in row["text"] for row in rows)
    assert all(row["order"]["city"] in row["text"] for row in rows)
    right = sum(row["order"] == truths[int(row["row_id"])] for row in rows)
    assert right >= 0.9 * len(truths)
    # 40 rows went in; each is among the results, or left out by the check.
    assert found.step("sound").rows_in == 40
    assert found.step("sound").rows_out + found.step("sound").dropped == 40
    assert len(rows) == found.step("sound").rows_out


def test_the_best_of_n_is_the_best_of_each_question(client: Client) -> None:
    found = run(client, "best_of_n", pairs(30))
    scored: dict[str, list[float]] = defaultdict(list)
    for row in found.step_rows("score"):
        if row["score"] is not None:
            scored[row["parent_id"]].append(row["score"]["agreement"])
    best = {row["row_id"].partition("/")[0]: row["score_agreement"] for row in found.results()}
    assert len(list(found.step_rows("candidate"))) == 30 * 5
    assert best == {parent: max(scores) for parent, scores in scored.items()}
    assert len(best) == 30
    right = sum(row["candidate"].strip() == str(row["a"] + row["b"]) for row in found.results())
    assert right >= 0.9 * 30


def test_what_was_split_is_merged_again(client: Client) -> None:
    rng = random.Random(5)
    lines = [
        [(rng.randint(2, 22), rng.randint(2, 22)) for _ in range(rng.randint(2, 4))]
        for _ in range(20)
    ]
    accounts = [
        {"title": f"account {number}", "text": "\n".join(f"{a} + {b}" for a, b in each)}
        for number, each in enumerate(lines)
    ]
    found = run(client, "split_merge", accounts)
    rows = list(found.results())
    assert [row["title"] for row in rows] == [account["title"] for account in accounts]
    assert found.step("line").rows_out == sum(map(len, lines))
    right = sum(
        row["total"].strip() == str(sum(a + b for a, b in each))
        for row, each in zip(rows, lines, strict=True)
    )
    assert right >= 0.9 * len(lines)
    four = next(number for number, each in enumerate(lines) if len(each) == 4)
    history = {trace["step"]: trace for trace in found.row(str(four))}
    assert len(history["total"]["requests"]) == 3  # two pairs, and their sums
    parts = [row["part"] for row in found.step_rows("part") if row["parent_id"] == str(four)]
    assert [request["prompt"] for request in history["total"]["requests"]][:2] == [
        f"What is {parts[0]} + {parts[1]}?",
        f"What is {parts[2]} + {parts[3]}?",
    ]


def test_an_evaluation_tells_models_apart(client: Client, worse_model: Path) -> None:
    tasks = demo_tasks.load(60, seed=2, kinds=("extract", "classify", "add"))
    test = [{"kind": task.kind, "question": task.prompt, "gold": task.answer} for task in tasks]
    models = ["penstock-demo", str(worse_model)]
    found = run(client, "evaluation", test, models=models)
    rows = list(found.results())
    report = {(row["model"], row["kind"]): row["report"] for row in rows}
    assert set(report) == {(model, kind) for model in models for kind in demo_tasks.KINDS[:3]}
    assert all(line["questions"] == 20 for line in report.values())
    answers = list(found.step_rows("exact"))
    for (model, kind), line in report.items():
        of_cell = [row for row in answers if (row["model"], row["kind"]) == (model, kind)]
        hits = sum(row["answer"].strip() == row["gold"].strip() for row in of_cell)
        assert line["accuracy"] == pytest.approx(hits / 20)
    means = [
        sum(report[model, kind]["accuracy"] for kind in demo_tasks.KINDS[:3]) / 3
        for model in models
    ]
    assert means[0] >= 0.9
    assert means[1] < means[0] - 0.1


def kill_all_parts(stack: Stack) -> int:
    """Kill the API and all workers of a stack at once, as the kernel would; tells how many."""
    ours = f"PENSTOCK_DATA={stack.data}".encode()
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is another's, or has ended
            words = (process / "cmdline").read_bytes().split(b"\0")
            is_part = b"penstock.api.cli" in words and {b"api", b"worker"} & set(words)
            if is_part and ours in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return killed


def test_a_run_goes_on_where_it_was_when_everything_is_killed(stack: Stack, client: Client) -> None:
    questions = pairs(400)
    workflow = Workflow.load(WORKFLOWS / "best_of_n.yaml")
    begun = client.workflows.run(workflow, {"questions": questions}, use_cache=False)
    wait_for(lambda: begun.refresh().step("candidate").rows_out, "rows", patience_s=240)
    assert not begun.is_final, "the run ended before anything could be killed"
    assert kill_all_parts(stack) >= 3
    begun.wait(timeout_s=300)
    candidates = Counter(row["row_id"] for row in begun.step_rows("candidate"))
    assert candidates == Counter(
        f"{number}/candidate#{sample}" for number in range(400) for sample in range(5)
    )
    best = Counter(row["row_id"].partition("/")[0] for row in begun.results())
    assert best == Counter(map(str, range(400)))
    stack.wait_until_ready()
