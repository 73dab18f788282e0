"""The verb validate: what it prints, and how it ends, with a server and without."""

import json
from functools import partial
from pathlib import Path

import pytest

from penstock.api.cli_output import OutputFormat, Printer
from penstock.api.client import Client
from penstock.api.validation_output import print_validation
from penstock.api.validation_record import JobValidation

from .command import Penstock
from .conftest import MODEL, Stack

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": n, "t": f"row {n}"}) + "\n" for n in range(20)))
    return path


@pytest.fixture
def mixed(rows: Path) -> Path:
    """Two rows that are the same, a line that is none, a row without the column, one too long."""
    with rows.open("a") as file:
        file.write('{"id": 1, "t": "row 1"}\nnonsense\n{"id": 77}\n')
        file.write(json.dumps({"id": 78, "t": "x" * 200_000}) + "\n")
    return rows


class TestOnAServer:
    def test_a_pipe_gets_one_object(self, penstock: Penstock, stack: Stack, rows: Path) -> None:
        run = penstock("validate", rows, "--prompt", "Say {{ row.t }}", "-m", MODEL,
                       "--id", "id", "-s", "max_tokens=4", "--url", stack.url)  # fmt: skip
        assert run.code == 0, run.err
        [found] = run.lines
        assert (found["object"], found["ok"], found["rows"]) == ("job.validation", True, 20)
        assert found["output_tokens"]["at_most"] == 80

    def test_a_person_gets_a_table(self, penstock: Penstock, stack: Stack, mixed: Path) -> None:
        run = penstock("validate", mixed, "--prompt", "Say {{ row.t }}", "-m", MODEL,
                       "--id", "id", "-o", "table", "--url", stack.url)  # fmt: skip
        assert run.code == 4
        said = " ".join(run.out.split())
        for text in (
            "rows 23",
            "bad lines 1",
            "rows in error 1",
            "over the context 1 (of 100,000 tokens)",
            "duplicates 1 (4.3%)",
            "line 22 is not JSON",
            "line 23 template_error: there is no 't'",
            "line 24 200,004 tokens leave no room for an answer",
            "line 21 the same request line 2",
            "line 21 the id 1 line 2",
        ):
            assert text in said, said

    def test_submit_has_it_as_a_dry_run(self, penstock: Penstock, stack: Stack, rows: Path) -> None:
        at = ("--url", stack.url)
        before = penstock("jobs", *at).out
        run = penstock("submit", rows, "--prompt", "{{ row.t }}", "-m", MODEL, "--dry-run", *at)
        assert (run.code, run.lines[0]["object"]) == (0, "job.validation")
        assert penstock("jobs", *at).out == before

    def test_what_no_job_could_be_is_a_mistake_in_usage(
        self, penstock: Penstock, stack: Stack, rows: Path
    ) -> None:
        run = penstock("validate", rows, "--prompt", "{{ row.", "-m", MODEL, "--url", stack.url)
        assert (run.code, run.out) == (2, "")
        assert "the template cannot be used" in run.err

    def test_a_named_server_that_is_not_there_is_not_replaced(
        self, penstock: Penstock, rows: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        impatient = partial(Client, max_retries=0)
        monkeypatch.setattr("penstock.api.cli_validate.Client", impatient)
        run = penstock("validate", rows, "--prompt", "x", "--url", NOWHERE)
        assert run.code == 1
        assert "Is it running?" in run.err


class TestWithoutAServer:
    def test_it_looks_by_itself(
        self, penstock: Penstock, mixed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("penstock.api.cli_validate.answers", lambda settings: False)
        run = penstock("validate", mixed, "--prompt", "Say {{ row.t }}", "-m", MODEL, "--id", "id")
        assert run.code == 4, run.err
        [found] = run.lines
        assert found["rows"] == 23
        assert found["too_long"]["rows"] == [{"line": 24, "tokens": 200_004}]
        assert "no server is asked" in run.err

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            (["{rows}", "--prompt", "{{{{ row.t }}}}", "-m", "/nowhere"], 0, "not checked: tokens"),
            (["{rows}", "--prompt", "{{{{ row.x }}}}", "-m", MODEL], 4, ""),
            (["{rows}", "--prompt", "{{{{ row.", "-m", MODEL], 2, "the template cannot be used"),
            (["{rows}", "-s", "temperature=-1", "-m", MODEL], 2, "temperature"),
            (["{rows}", "--prompt", "x", "--format", "parquet", "-m", MODEL], 2, "as Parquet"),
            (["missing.jsonl", "--prompt", "x", "-m", MODEL], 2, "cannot read missing.jsonl"),
        ],
    )
    def test_how_it_ends(
        self, penstock: Penstock, rows: Path, arguments: list[str], code: int, says: str
    ) -> None:
        run = penstock("validate", "--here", *(each.format(rows=rows) for each in arguments))
        assert run.code == code, run.err
        assert says in run.err
        assert "Traceback" not in run.err

    def test_a_model_must_be_named_where_there_are_several(
        self, penstock: Penstock, rows: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PENSTOCK_MODELS", "a,b")
        run = penstock("validate", "--here", rows, "--prompt", "x")
        assert (run.code, "one of a, b" in run.err) == (2, True)


def test_what_is_estimated_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    raw = {
        "model": "m",
        "ok": False,
        "complete": False,
        "stopped": "the time was over",
        "rows": 1_000_000,
        "refusal": {"param": "prompt", "message": "there is no such column"},
        "too_long": {"count": 0, "context_window": None, "rows": [], "cut_short": 2},
        "duplicates": {"count": 70_000, "exact": False, "examples": []},
        "input_tokens": {"total": 5_000_000, "exact": False, "counted_rows": 9, "longest": 70},
        "output_tokens": {"at_most": None, "expected": 31_000_000, "p90": 40_000_000},
        "prefix_reuse": {"tokens": 61, "of_tokens": 100, "rows": 100_000, "share": 0.61},
        "seconds": {"p50": 6720.0, "p90": 8400.0},
        "rests_on": ["no one knows"],
        "warnings": ["it is all the same"],
    }
    found = JobValidation.from_json({**raw, "something": "new"})
    assert found.is_estimated
    assert found.seconds == (6720.0, 8400.0)
    print_validation(Printer(), found)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {**raw, "something": "new"}
    assert "not all was read: the time was over" in printed.err
    print_validation(Printer(OutputFormat.TABLE), found)
    said = " ".join(capsys.readouterr().out.split())
    for text in (
        "rows 1,000,000 so far",
        "over the context 0; 2 answers may be cut short",
        "duplicates about 70,000 (7.0%)",
        "input tokens about 5,000,000 (estimated: 9 of 1,000,000 rows were counted",
        "output tokens about 31,000,000, no bound",
        "prefix reuse 61.0% of the input tokens (of the first 100,000 rows)",
        "time 1h 52m to 2h 20m",
        "all rows there is no such column",
    ):
        assert text in said, said
        assert text in " ".join(str(found).split())
    assert "warning: it is all the same" in printed.err
    assert str(found).endswith(
        "warning: it is all the same\nnot all was read: the time was over\nno one knows"
    )


def test_a_remedy_at_the_end_of_a_long_message_is_not_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = "the row has no column 'txt', as the template wants it; did you mean row.text?"
    kinds = [{"code": "template_error", "message": message, "lines": [3], "count": 1}]
    raw = {"model": "m", "ok": False, "rows": 3, "row_errors": {"count": 1, "kinds": kinds}}
    print_validation(Printer(OutputFormat.TABLE), JobValidation.from_json(raw))
    said = " ".join(capsys.readouterr().out.split())
    assert "did you mean row.text?" in said
