"""`penstock top`: in a real terminal, in a pipe, and what fits on which screen."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.segment import Segment

from penstock.api.app import create_app
from penstock.api.client import Client, Job
from penstock.api.rate_history import RateHistory
from penstock.api.records import JobRecord
from penstock.api.sparkline import chart, sparkline
from penstock.api.top_snapshot import Snapshot, WorkerRecord, look
from penstock.api.top_view import TopView, share
from penstock.api.workflow_records import RunRecord, StepRecord
from penstock.jobs.model import Counts, JobState
from tests.ports import reserved_port

from .command import Penstock
from .conftest import IDLE_MODEL, MODEL, Stack
from .serving import serving
from .terminal import ALTERNATE_SCREEN, SHOWN_CURSOR, USUAL_SCREEN, terminal

TOP = (sys.executable, "-m", "penstock.api.cli", "top", "--interval", "0.2")


@pytest.fixture(scope="module")
def waiting(stack: Stack) -> Iterator[Job]:
    """A job that nobody works at."""
    with Client(stack.url) as client:
        job = client.jobs.submit([{"text": "x"}] * 7, prompt="{{ row.text }}", model=IDLE_MODEL)
        yield job
        job.cancel()


class TestInATerminal:
    def test_it_fits_itself_to_the_terminal_and_q_leaves(self, stack: Stack, waiting: Job) -> None:
        with terminal([*TOP, "--url", stack.url]) as screen:
            small = screen.wait_for("workers", "jobs", waiting.id, "0/7", MODEL, "q leaves")
            assert ALTERNATE_SCREEN in screen.heard
            assert not screen.echoes()
            assert len(small.splitlines()) == 24
            assert all(len(line) <= 80 for line in small.splitlines())
            assert "progress" not in small
            screen.resize(160, 40)
            wide = screen.wait_for("progress", "lately", waiting.id, IDLE_MODEL, "now")
            assert len(wide.splitlines()) == 40
            screen.press("q")
            assert screen.wait_for_end() == 0
            assert screen.heard.endswith(SHOWN_CURSOR + USUAL_SCREEN)
            assert screen.echoes()

    def test_it_bears_a_restart_of_the_api_and_ctrl_c_leaves(
        self, stack: Stack, waiting: Job
    ) -> None:
        with reserved_port() as port, ExitStack() as before:
            url = before.enter_context(serving(create_app(stack.settings), port=port))
            with terminal([*TOP, "--url", url]) as screen:
                screen.wait_for(waiting.id)
                before.close()
                blind = screen.wait_for("cannot reach", "trying again")
                assert waiting.id in blind  # what was seen last stays
                with serving(create_app(stack.settings), port=port):
                    screen.wait_for(waiting.id, gone="cannot reach")
                    screen.press("\x03")
                    assert screen.wait_for_end() == 0
                assert USUAL_SCREEN in screen.heard
                assert "Traceback" not in screen.heard

    def test_a_no_of_the_server_ends_it(self, stack: Stack) -> None:
        with (
            serving(create_app(replace(stack.settings, api_key="s3cret"))) as url,
            terminal([*TOP, "--url", url]) as screen,
        ):
            assert screen.wait_for_end() == 1
            assert "--api-key or PENSTOCK_API_KEY" in screen.heard.rpartition(USUAL_SCREEN)[2]
            assert screen.echoes()


class TestInAPipe:
    def test_a_line_of_json_for_every_look(self, stack: Stack, waiting: Job) -> None:
        with subprocess.Popen([*TOP, "--url", stack.url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            looks = [json.loads(process.stdout.readline()) for _ in range(3)]
            process.terminate()
            assert process.wait(60) == 0
        assert [each["object"] for each in looks] == ["top"] * 3
        assert looks[0]["at"] < looks[1]["at"] < looks[2]["at"]
        assert waiting.id in {job["id"] for job in looks[2]["jobs"]}
        assert MODEL in {worker["model"] for worker in looks[2]["workers"]}
        assert looks[2]["open_jobs"]["queued"] >= 1
        assert looks[2]["waiting_rows"] >= 7

    def test_once(self, penstock: Penstock, stack: Stack, waiting: Job) -> None:
        [seen] = penstock("top", "--once", "--url", stack.url).lines
        assert seen["object"] == "top"
        run = penstock("top", "--once", "-o", "table", "--url", stack.url)
        assert (run.code, waiting.id in run.out) == (0, True)


def job(number: int, status: JobState = JobState.RUNNING, **facts: object) -> JobRecord:
    counts = Counts(total=1_204_331, succeeded=855_120, failed=12)
    record = JobRecord(f"job_01K3{number:022}", status, counts=counts, model="m", name="\x1b[31mx")
    return replace(record, rows_per_s=1234.5, tokens_per_s=61_200.0, eta_s=6720.0, **facts)


def drawn(view: TopView, columns: int, lines: int) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, height=lines, color_system=None)
    found = Segment.split_lines(console.render(view))
    return ["".join(segment.text for segment in line).rstrip() for line in found]


def view(num_jobs: int, num_workers: int = 1, num_looks: int = 0) -> TopView:
    steps = tuple(StepRecord(f"step-{n}", state="running", num_shards=4) for n in range(20))
    workers = [WorkerRecord(f"w{n}", "m", 64, 9, 0.5, 1e3) for n in range(num_workers)]
    history = RateHistory()
    rates = history.add(0.0, {})
    for number in range(num_looks):
        rates = history.add(100.0 * number, {"w0": 100.0 * number})
    return TopView(
        "http://here",
        Snapshot(
            datetime(2026, 1, 2, tzinfo=UTC),
            tuple(map(job, range(num_jobs))),
            (RunRecord(f"run_01K3{0:022}", JobState.RUNNING, "flow", steps=steps),),
            tuple(workers),
            {"running": num_jobs},
            9,
        ),
        rates,
        is_live=True,
    )


class TestThePicture:
    @pytest.mark.parametrize("columns", [80, 111, 112, 200])
    @pytest.mark.parametrize("lines", [10, 24, 50])
    def test_it_fits(self, columns: int, lines: int) -> None:
        found = drawn(view(3_000, num_workers=30, num_looks=300), columns, lines)
        assert len(found) <= lines
        assert all(len(line) <= columns for line in found)
        assert not any("\x1b" in line for line in found)

    def test_ids_are_never_cut(self) -> None:
        found = "\n".join(drawn(view(2), 80, 24))
        assert job(0).id in found
        assert job(1).id in found
        assert f"run_01K3{0:022}" in found
        assert "855.1k/1.2M" in found
        assert "1h 52m" in found

    def test_it_says_how_many_more_there_are(self) -> None:
        found = drawn(view(3_000), 80, 24)
        assert any("busiest of 3,000" in line for line in found)
        assert len([line for line in found if line.startswith("job_")]) >= 5

    def test_no_id_is_cut_where_it_is_narrow(self) -> None:
        seen = view(5)
        assert seen.snapshot is not None
        found = [
            line.split()[0] for line in drawn(seen, 60, 24) if line.startswith(("job_", "run_"))
        ]
        assert set(found) == {each.id for each in (*seen.snapshot.jobs, *seen.snapshot.runs)}
        assert any("rows" in line and "errors" in line for line in drawn(seen, 60, 24))

    def test_a_plot_where_there_is_room(self) -> None:
        assert "█" in "".join(drawn(view(1, num_looks=90), 80, 24))
        assert "█" not in "".join(drawn(view(1, num_looks=90), 80, 12))
        assert "█" not in "".join(drawn(view(1), 80, 24))

    def test_nothing_at_all(self) -> None:
        empty = TopView("http://here", Snapshot(datetime(2026, 1, 2, tzinfo=UTC)))
        assert "none is there" in "\n".join(drawn(empty, 80, 24))
        assert drawn(TopView("http://here", trouble="away"), 80, 24)[1] == "away"


def test_lines_are_shared_evenly() -> None:
    assert share([1, 2, 3], 10) == [1, 2, 3]
    assert share([1, 50, 50], 11) == [1, 5, 5]
    assert share([5, 5], 0) == [0, 0]
    assert share([5, 5], -3) == [0, 0]


def test_plots_of_characters() -> None:
    assert sparkline([0, 1, 4, 8], 6) == "   ▁▄█"
    assert sparkline([1, 2, 3], 2) == "▅█"
    assert sparkline([0.001, 1000], 2) == "▁█"  # little is not nothing
    assert sparkline([], 3) == "   "
    assert chart([0, 4, 8], 3, 2) == ["  █", " ██"]
    assert chart([8, 16], 2, 2, top=16, plain=True) == [" %", "%%"]


def test_the_busiest_come_first_and_ended_ones_last(stack: Stack, waiting: Job) -> None:
    with Client(stack.url) as client:
        done = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=MODEL).wait()
        ids = [each.id for each in client.run(look(client.retry)).jobs]
    assert ids.index(waiting.id) < ids.index(done.id)
