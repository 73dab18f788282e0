"""What is shown of a job's and a run's progress: on a terminal, in a notebook, in a log."""

import dataclasses
import io
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from penstock.api.cli_runs_output import run_summary
from penstock.api.eta import Eta, EtaGauge
from penstock.api.notebook import notebook_output
from penstock.api.progress import JobProgress
from penstock.api.records import JobRecord
from penstock.api.run_progress import RunProgress, steps_table
from penstock.api.wording import error_words, eta_words, finer_facts, short_rate
from penstock.api.workflow_records import RunRecord

from .scripted import connect, job_json, script


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def job(
    succeeded: int = 2, total: int = 1000, status: str = "running", **changes: Any
) -> JobRecord:
    counts = {"total": total, "succeeded": succeeded, "failed": changes.pop("failed", 0)}
    return JobRecord.from_json(job_json(status, counts=counts, **changes))


def run(rows_out: int = 0, tokens: int = 0, status: str = "running", **changes: Any) -> RunRecord:
    state = "completed" if status == "completed" else "running"
    step = {"id": "a", "type": "generate", "state": state, "rows": {"out": rows_out}, **changes}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens}
    return RunRecord.from_json(
        {"id": "run_1", "status": status, "workflow": "w", "steps": [step], "usage": usage}
    )


class Notebook:
    """As much of IPython as a kernel shows to us: outputs, and what each was given."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []
        self.HTML = str

    def display(self, html: str, *, display_id: bool) -> Any:
        assert display_id
        output = [html]
        self.outputs.append(output)
        return SimpleNamespace(update=output.append)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    notebook = Notebook()
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=notebook)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    return notebook


def log_lines(show: Callable[[JobProgress, Clock], None]) -> list[str]:
    text, clock = io.StringIO(), Clock()
    with JobProgress(Console(file=text, width=40), clock) as bar:
        show(bar, clock)
    return text.getvalue().splitlines()


class TestLog:
    def test_a_line_says_rows_rates_eta_and_errors_by_code(self) -> None:
        [line] = log_lines(
            lambda bar, clock: bar.show(
                job(failed=3, errors_by_code={"context_length_exceeded": 2, "invalid_output": 1})
            )
        )
        assert line == (
            "job_1 running 5/1,000 rows · 300 tok/s · eta 12s · 3 failed · 1.5 rows/s · "
            "errors: context_length_exceeded 2, invalid_output 1"
        )

    def test_lines_are_some_seconds_apart_and_rarer_in_the_long_run(self) -> None:
        def show(bar: JobProgress, clock: Clock) -> None:
            for second in range(3600):
                clock.now_s = 100.0 + second
                bar.show(job(second))

        lines = log_lines(show)
        assert lines[1].startswith("job_1 running 2/1,000")
        assert 60 < len(lines) < 120

    def test_a_job_that_stands_still_says_nothing_new(self) -> None:
        def show(bar: JobProgress, clock: Clock) -> None:
            for _ in range(50):
                clock.now_s += 60
                bar.show(job())

        assert len(log_lines(show)) == 1

    def test_its_end_is_told_at_once(self) -> None:
        def show(bar: JobProgress, clock: Clock) -> None:
            bar.show(job())
            bar.show(job(3))
            bar.show(job(1000, status="completed"))

        assert [line.split()[1] for line in log_lines(show)] == ["running", "completed"]

    def test_a_pause_makes_the_time_left_no_less_sure(self) -> None:
        def show(bar: JobProgress, clock: Clock) -> None:
            for done in range(0, 100, 10):
                clock.now_s += 10
                bar.show(job(done))
            bar.show(job(90, status="paused"))
            clock.now_s += 3600
            for done in range(90, 200, 10):
                clock.now_s += 10
                bar.show(job(done))

        lines = log_lines(show)
        assert [line.split()[1] for line in lines].count("paused") == 1
        assert lines[-1].startswith("job_1 running 1")
        assert all("eta 12s · " in line for line in lines)

    def test_nothing_is_taken_for_markup(self) -> None:
        [line] = log_lines(lambda bar, clock: bar.show(job(error="[red]x[/nothing]")))
        assert "[red]x[/nothing]" in line


class TestTerminal:
    def draw(self, *records: JobRecord) -> str:
        text, clock = io.StringIO(), Clock()
        console = Console(file=text, force_terminal=True, color_system=None, width=80)
        with JobProgress(console, clock) as bar:
            for record in records:
                clock.now_s += 1
                bar.show(record)
        return text.getvalue()

    def test_a_pause_says_why_below(self) -> None:
        why = "error_rate: 12 of 20 rows failed, which is more than 0.1"
        drawn = self.draw(job(8, failed=12, status="paused", status_reason=why))
        assert why in " ".join(drawn.split())

    def test_a_second_line_says_what_the_first_has_no_room_for(self) -> None:
        drawn = self.draw(job(500, failed=12, errors_by_code={"invalid_output": 12}))
        lines = [line.strip() for line in drawn.splitlines()]
        assert any("…job_1 running" in line and " 51% 512/1,000 rows" in line for line in lines)
        assert "1.5 rows/s · errors: invalid_output 12" in lines

    def test_says_how_sure_the_time_left_is_once_that_is_known(self) -> None:
        records = [job(done) for done in (0, 100, 150, 350, 360, 500)]
        assert "eta p90" not in self.draw(*records[:3])
        assert "eta p90" in self.draw(*records)


class TestNotebook:
    def test_one_output_shows_the_card_and_is_brought_up_to_date(self, notebook: Notebook) -> None:
        clock = Clock()
        with JobProgress(clock=clock) as bar:
            bar.show(job(1))
            bar.show(job(2))  # too soon after the first
            clock.now_s += 1
            bar.show(job(3))
            bar.show(job(1000, status="completed"))
        [output] = notebook.outputs
        assert all(html.startswith('<div class="penstock-card"') for html in output)
        told = [next(n for n in ("1 of", "2 of", "3 of", "1,000 of") if n in h) for h in output]
        assert told == ["1 of", "3 of", "1,000 of"]

    def test_a_job_waits_with_it(
        self, notebook: Notebook, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import httpx2

        handler, _ = script(
            httpx2.Response(200, json=job_json()), httpx2.Response(200, json=job_json("completed"))
        )
        connect(handler).jobs.get("job_1").wait(progress=True)
        assert "completed" in notebook.outputs[0][-1]
        assert capsys.readouterr().err == ""

    def test_a_run_has_its_steps_in_it(self, notebook: Notebook) -> None:
        with RunProgress() as board:
            board.show(run(5))
        assert "run_1" in notebook.outputs[0][0]

    def test_a_console_that_is_given_is_used(self, notebook: Notebook) -> None:
        assert log_lines(lambda bar, clock: bar.show(job()))
        assert notebook.outputs == []

    def test_ipython_on_a_terminal_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert notebook_output() is None
        for shell in (None, SimpleNamespace()):
            ipython = SimpleNamespace(get_ipython=lambda shell=shell: shell)
            monkeypatch.setitem(sys.modules, "IPython", ipython)
            assert notebook_output() is None


class TestRun:
    def test_lines_tell_rates_and_errors(self) -> None:
        text, clock = io.StringIO(), Clock()
        with RunProgress(Console(file=text, width=40), clock) as board:
            board.show(run())
            clock.now_s += 1
            board.show(run(1, 50))  # too soon
            clock.now_s += 9
            board.show(run(9, 1000, errors_by_code={"invalid_output": 2}))
            board.show(run(9, 1000, status="completed"))
        assert text.getvalue().splitlines() == [
            "run_1 running ▸a 0",
            "run_1 running ▸a 9 · 100 tok/s · errors: invalid_output 2",
            "run_1 completed ✓a 9",
        ]

    def test_a_pause_is_no_work_and_what_was_told_of_it_is_not_repeated(self) -> None:
        text = io.StringIO()
        told = run(status="paused")
        told = dataclasses.replace(told, status_reason="error_rate: 128 of 256 rows failed")
        for tells_pauses in (True, False):
            with RunProgress(Console(file=text), Clock(), tells_pauses=tells_pauses) as board:
                board.show(told)
        assert text.getvalue().splitlines() == [
            "run_1 paused ‖a · error_rate: 128 of 256 rows failed",
            "run_1 paused ‖a",
        ]

    def test_what_is_not_the_models_own_is_told(self) -> None:
        text = io.StringIO()
        with RunProgress(Console(file=text), Clock()) as board:
            board.show(made := run(status="completed", rows={"out": 9, "defaulted": 3}))
        assert text.getvalue() == "run_1 completed ✓a 9 (3 defaulted)\n"
        assert "3 defaulted" in run_summary(made)
        heads = [column.header for column in steps_table(made).columns]
        assert "defaulted" in heads
        assert "defaulted" not in [column.header for column in steps_table(run()).columns]


class TestEta:
    def gauge(self, *intervals: tuple[float, int], left: int = 1000) -> Eta | None:
        clock, done = Clock(), 0
        gauge = EtaGauge(clock)
        eta = gauge.look(0, left, 10.0)
        for seconds, rows in intervals:
            clock.now_s += seconds
            done += rows
            eta = gauge.look(done, left, 10.0)
        return eta

    def test_an_even_pace_is_sure_and_an_uneven_one_is_not(self) -> None:
        even = self.gauge(*[(1.0, 10)] * 8)
        uneven = self.gauge(*[(0.1, 10), (1.9, 10)] * 4)
        assert even == Eta(10.0, 10.0)
        assert uneven is not None
        assert uneven.p90_s is not None
        # 100 intervals to come, 8 seen, each 0.962 s off: 1.2816 * 0.962 * sqrt(100 + 100² / 8)
        assert uneven.p90_s == pytest.approx(10 + 1.2816 * 0.9621 * 1350**0.5, rel=1e-3)

    def test_says_nothing_before_it_has_seen_enough_or_the_server_tells(self) -> None:
        assert self.gauge((1.0, 10), (2.0, 10), (1.0, 10)) == Eta(10.0, None)
        assert EtaGauge().look(1, 2, None) is None

    def test_looks_at_which_nothing_had_landed_belong_to_the_next(self) -> None:
        assert self.gauge(*[(0.5, 0), (0.5, 10)] * 4) == Eta(10.0, 10.0)

    def test_a_pause_says_nothing_about_the_rate(self) -> None:
        clock = Clock()
        gauge = EtaGauge(clock)
        eta = None
        for done in range(0, 60, 10):
            eta = gauge.look(done, 1000, 10.0)
            clock.now_s += 1.0
        clock.now_s += 3600
        gauge.forget()
        for done in (60, 70):
            eta = gauge.look(done, 1000, 10.0)
            clock.now_s += 1.0
        assert eta == Eta(10.0, 10.0)


def test_words() -> None:
    assert eta_words(Eta(60.0, 90.0)) == "1m 00s-1m 30s"
    assert eta_words(Eta(60.0, 60.2)) == "1m 00s"
    codes = {"a": 1, "b": 5, "c": 1, "d": 1, "e": 1, "f": 1}
    assert error_words(codes) == "b 5, a 1, c 1, d 1, 2 more"
    assert [short_rate(rate) for rate in (0.123, 9.94, 10, 1234)] == ["0.12", "9.9", "10", "1.2k"]
    assert finer_facts(job(status="completed")) == ""
