"""The verb demo: Penstock shown on itself. A real stack, a bulk job, a chat meanwhile, Parquet.

Knows the demo model's small jobs and their truth, so that it can measure what it shows.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ..jobs.settings import DEMO_MODEL, Settings
from . import demo_tasks
from .cli_job_output import summary, tokens_per_s
from .cli_options import Output
from .cli_output import Printer
from .cli_watch import follow_to_the_end
from .client import Client, Job
from .client_errors import JobFailed, PenstockError
from .demo_tasks import DemoTask
from .home_path import at_home
from .tables import landed_table

EXIT_ROWS_MISSING = 1
_MAX_TOKENS = 160
_CHAT_MESSAGE = "Tell a story about Mila, a fox and the lake."


@dataclass(slots=True)
class ChatShow:
    """One answer, streamed while the bulk job runs. The figures are there once it has ended."""

    url: str
    text: str = ""
    first_token_s: float | None = None
    error: str | None = None
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        """Ask in a thread of its own."""
        self._thread = threading.Thread(target=self._ask, name="demo-chat", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the answer."""
        if self._thread is not None:
            self._thread.join(60.0)

    def _ask(self) -> None:
        began_s = time.perf_counter()
        try:
            with (
                Client(self.url) as client,
                client.chat(
                    _CHAT_MESSAGE,
                    model=DEMO_MODEL,
                    stream=True,
                    temperature=0,
                    max_tokens=_MAX_TOKENS,
                ) as stream,
            ):
                for delta in stream:
                    if delta.text and self.first_token_s is None:
                        self.first_token_s = time.perf_counter() - began_s
                    self.text += delta.text
        except PenstockError as error:
            self.error = str(error)


@dataclass(frozen=True, slots=True)
class Score:
    """How often the answers of one kind were exactly right."""

    kind: str
    right: int
    total: int


def demo(
    rows: Annotated[int, typer.Option(min=1, help="How many small jobs.")] = 2000,
    out: Annotated[Path, typer.Option(help="Directory that receives JOB/rows.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Which small jobs.")] = 0,
    output: Output = None,
) -> None:
    """Show it all on this machine: a stack, a bulk job with a known truth, a chat meanwhile."""
    from .local import LocalStack
    from .stop_signals import sigterm_as_interrupt

    printer = Printer(output)
    directory = at_home(out).absolute()
    tasks = demo_tasks.load(rows, seed, "heldout")
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as scratch, sigterm_as_interrupt():
        settings = Settings.load(data=f"{scratch}/data", models=[DEMO_MODEL])
        with LocalStack(settings, on_trouble=printer.note) as stack:
            printer.note(f"starting Redis, the API and a worker with {DEMO_MODEL}")
            stack.wait_until_ready()
            source = Path(scratch) / "tasks.jsonl"
            write_tasks(tasks, source)
            with Client(stack.url, settings.api_key) as client:
                job = client.jobs.submit(
                    source,
                    model=DEMO_MODEL,
                    prompt="{{ row.prompt }}",
                    id="id",
                    name="demo",
                    sampling={"temperature": 0, "max_tokens": _MAX_TOKENS},
                    output=directory,
                )
                chat = ChatShow(stack.url)
                chat.start()
                try:
                    follow_to_the_end(printer, job, "stopped; the demo ends with its stack")
                except JobFailed as error:
                    printer.note(str(error))
                chat.join()
    outputs = landed_outputs(job)
    num_missing = len(tasks) - len(outputs)
    _print_report(printer, job, tasks, outputs, chat)
    if num_missing:
        printer.note(f"{num_missing:,} of {len(tasks):,} rows are missing")
        raise typer.Exit(EXIT_ROWS_MISSING)


def write_tasks(tasks: Sequence[DemoTask], path: Path) -> None:
    """Write small jobs as JSON lines, without their truth."""
    with path.open("w", encoding="utf-8") as file:
        for index, task in enumerate(tasks):
            row = {"id": f"task-{index:05}", "kind": task.kind, "prompt": task.prompt}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def landed_outputs(job: Job) -> dict[int, str]:
    """Read the answers back from Parquet, by the row's position in the input."""
    table = landed_table(job.record)
    if table is None:
        return {}
    columns = (table.column(name).to_pylist() for name in ("row_index", "output"))
    return {index: output or "" for index, output in zip(*columns, strict=True)}


def score(tasks: Sequence[DemoTask], outputs: dict[int, str]) -> list[Score]:
    """Compare answers with the truth, kind by kind; a row that is missing is wrong."""
    scores = []
    for kind in demo_tasks.KINDS:
        known = [
            (index, task)
            for index, task in enumerate(tasks)
            if task.kind == kind and task.answer is not None
        ]
        if known:
            right = sum(
                index in outputs and demo_tasks.is_correct(task, outputs[index])
                for index, task in known
            )
            scores.append(Score(kind, right, len(known)))
    return scores


def _print_report(
    printer: Printer,
    job: Job,
    tasks: Sequence[DemoTask],
    outputs: dict[int, str],
    chat: ChatShow,
) -> None:
    scores = score(tasks, outputs)
    if printer.is_json:
        printer.json_line(_report_json(job, tasks, outputs, scores, chat))
        return
    printer.heading("Some rows")
    printer.facts(_samples(tasks, outputs))
    printer.heading("Exactly right, on compositions the model never saw")
    printer.facts(
        (each.kind, f"{each.right:,} of {each.total:,}, {each.right / each.total:.1%}")
        for each in scores
    )
    printer.heading("A chat, while the job ran")
    waited = f"{chat.first_token_s:.2f} s" if chat.first_token_s is not None else None
    printer.facts(
        [("asked", _CHAT_MESSAGE), ("", f"→ {chat.error or chat.text}"), ("first token", waited)]
    )
    printer.heading("The job")
    printer.facts(
        [
            ("summary", summary(job.record)),
            ("Parquet", f"{job.output_path}/rows"),
            ("next", "`penstock up` keeps such a stack running; README.md shows what it can do"),
        ]
    )


def _samples(tasks: Sequence[DemoTask], outputs: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Give the first task of every kind with its answer."""
    first = {task.kind: index for index, task in reversed(list(enumerate(tasks)))}
    for kind, index in sorted(first.items(), key=lambda item: item[1]):
        yield kind, tasks[index].prompt
        yield "", f"→ {outputs.get(index, '(missing)')}"


def _report_json(
    job: Job,
    tasks: Sequence[DemoTask],
    outputs: dict[int, str],
    scores: Sequence[Score],
    chat: ChatShow,
) -> dict[str, Any]:
    record = job.record
    return {
        "job": record.id,
        "status": str(record.status),
        "rows": len(tasks),
        "landed": len(outputs),
        "missing": len(tasks) - len(outputs),
        "seconds": record.duration_s,
        "output_tokens": record.usage.completion_tokens,
        "output_tokens_per_s": tokens_per_s(record),
        "accuracy": {each.kind: each.right / each.total for each in scores},
        "chat": {"text": chat.text, "first_token_s": chat.first_token_s, "error": chat.error},
        "parquet": f"{record.output_path}/rows",
    }
