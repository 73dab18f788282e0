"""The command line, driven as a person or a pipe drives it, against a real stack."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from penstock import __version__
from penstock.api import cli_server, doctor_server
from penstock.api.app import create_app
from penstock.api.cli_output import Printer
from penstock.api.cli_server import running_server
from penstock.api.client import Client
from penstock.api.local import LocalStack
from penstock.jobs.redis_server import RedisServer

from .command import Penstock
from .conftest import MODEL, Stack
from .serving import serving

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": f"r{n}", "text": f"row {n}"}) for n in range(20)]
    path.write_text("\n".join(lines))
    return path


def test_version(penstock: Penstock) -> None:
    assert penstock("--version").out == f"penstock {__version__}\n"


class TestTroubles:
    def test_no_server(self, penstock: Penstock) -> None:
        run = penstock("jobs", "--url", NOWHERE)
        assert (run.code, run.out) == (1, "")
        assert run.err.startswith(f"penstock: no answer from {NOWHERE}")
        assert run.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["submit", "--nope"], "No such option: --nope"),
            (["submit", "missing.jsonl", "--prompt", "x"], "cannot read missing.jsonl"),
            (["run", "missing.jsonl", "--url", NOWHERE], "cannot read missing.jsonl"),
            (["submit", __file__, "--prompt", "@missing.j2"], "cannot read missing.j2"),
            (["submit", __file__, "-s", "temperature"], "expected NAME=VALUE, got 'temperature'"),
            (["submit", __file__, "--system", "x"], "--system needs a --prompt"),
            (["jobs", "--url", "localhost:8100"], "http://host:8100"),
            (["up", "--set", "max_num_seqs=lots"], "max_num_seqs must be a number, got 'lots'"),
            (["up", "--set", "nope=1"], "there is no setting 'nope'"),
            (["flower", "--host", "0.0.0.0"], "FLOWER_BASIC_AUTH"),
            (["worker", "--set", "models=a,b"], "name it with --model (configured: a, b)"),
            (["worker", "--set", "models= "], "name it with --model (configured: none)"),
        ],
    )
    def test_usage(self, penstock: Penstock, arguments: list[str], says: str) -> None:
        run = penstock(*arguments)
        assert run.code == 2
        assert says in run.err
        assert "Traceback" not in run.err
        if "--nope" not in arguments:  # that one is typer's own, in a box
            assert run.err.startswith("penstock: ")
            assert run.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--url", "http://["], "must look like http://host:8100"),
            (["--api-key", "ключ"], "the API key may hold"),
            (["--api-key", "a\nb"], "the API key may hold"),
            (["--idempotency-key", "ключ"], "idempotency_key may hold"),
            (["--prompt", "@{latin}"], "it is not UTF-8"),
        ],
    )
    def test_odd_texts(
        self, penstock: Penstock, rows: Path, tmp_path: Path, arguments: list[str], says: str
    ) -> None:
        (tmp_path / "latin").write_bytes(b"\xe9\xff")
        arguments = [each.format(latin=tmp_path / "latin") for each in arguments]
        run = penstock("submit", rows, "--url", NOWHERE, *arguments)
        assert run.code in (1, 2)
        assert says in run.err
        assert "Traceback" not in run.err

    def test_a_missing_extra_is_named(
        self, penstock: Penstock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        run = penstock("api")
        assert run.code == 1
        assert "uvicorn" in run.err
        assert "pip install 'penstock[all]'" in run.err

    def test_a_server_that_asks_for_a_key(self, penstock: Penstock, stack: Stack) -> None:
        with serving(create_app(replace(stack.settings, api_key="s3cret"))) as url:
            done = penstock("jobs", "--url", url)
            assert done.code == 1
            assert "--api-key or PENSTOCK_API_KEY" in done.err
            assert penstock("jobs", "--url", url, "--api-key", "s3cret").code == 0

    def test_the_servers_no_is_one_line(self, penstock: Penstock, stack: Stack, rows: Path) -> None:
        run = penstock(
            "submit", rows, "--prompt", "{{ row.txt }}", "--url", stack.url, "--model", MODEL
        )
        assert run.code == 2
        assert "no column 'txt'" in run.err
        assert run.err.count("\n") == 1


class TestJobs:
    def test_from_submit_to_results(
        self, penstock: Penstock, stack: Stack, rows: Path, tmp_path: Path
    ) -> None:
        at = ("--url", stack.url)
        submitted = penstock(
            "submit", rows, "--prompt", "Say {{ row.text }}", "-m", MODEL, "--id", "id",
            "--name", "cli", "--out", tmp_path / "out", "-s", "max_tokens=4", "--watch", *at,
        )  # fmt: skip
        assert submitted.code == 0, submitted.err
        [job] = submitted.lines
        assert (job["status"], job["counts"]["succeeded"], job["name"]) == ("completed", 20, "cli")
        assert "20 rows" in submitted.err

        [shown] = penstock("show", job["id"], *at).lines
        assert shown == {**job, "metadata": {}} | {k: shown[k] for k in shown if k not in job}
        assert job["id"] in {line["id"] for line in penstock("jobs", *at).lines}
        found = penstock("results", job["id"], *at).lines
        assert [row["row_index"] for row in found] == list(range(20))
        assert [row["custom_id"] for row in found] == [f"r{n}" for n in range(20)]
        assert penstock("errors", job["id"], *at).lines == []
        assert len(list((tmp_path / "out" / job["id"] / "rows").glob("*.parquet"))) == 1

        table = penstock("results", job["id"], "-o", "table", "--limit", 3, *at)
        assert [line.split()[:3] for line in table.out.splitlines()[1:]] == [
            [str(n), f"r{n}", "succeeded"] for n in range(3)
        ]
        assert "there are more" in table.err
        assert "status" in penstock("show", job["id"], "-o", "table", *at).out

    def test_following_up_to_a_limit_waits_for_no_row_more(
        self, penstock: Penstock, stack: Stack
    ) -> None:
        rows = [{"text": "short"}] * 64 + [{"text": "[[long]]"}] * 64  # two shards
        with Client(stack.url) as client:
            job = client.jobs.submit(rows, prompt="{{ row.text }}", model=MODEL)
            try:
                command = [sys.executable, "-m", "penstock.api.cli", "results", job.id, "--follow"]
                command += ["--limit", "64", "--url", stack.url]
                run = subprocess.run(command, capture_output=True, timeout=120, check=True)
                assert len(run.stdout.splitlines()) == 64
                assert not job.refresh().is_final
            finally:
                job.cancel()

    def test_rows_that_fail_and_lines_that_are_none(
        self, penstock: Penstock, stack: Stack, tmp_path: Path
    ) -> None:
        path = tmp_path / "mixed.jsonl"
        path.write_text('{"text": "fine"}\nnonsense\n{"text": "[[fail]]"}\n')
        run = penstock(
            "submit", path, "--prompt", "{{ row.text }}", "--watch", "-m", MODEL, "--url", stack.url
        )
        assert run.code == 4
        [job] = run.lines
        assert job["status"] == "completed_with_errors"
        assert "line 2 rejected" in run.err
        assert "row 2 failed: " in run.err
        assert f"all errors: penstock errors {job['id']}" in run.err
        assert f"penstock results {job['id']}" in run.err
        errors = penstock("errors", job["id"], "--url", stack.url).lines
        assert {error.get("line", error.get("row_index")) for error in errors} == {2}
        failed = penstock("results", job["id"], "--status", "failed", "--url", stack.url).lines
        assert [row["row_index"] for row in failed] == [2]

    def test_a_line_that_is_none_shows_in_the_exit_status(
        self, penstock: Penstock, stack: Stack, tmp_path: Path
    ) -> None:
        path = tmp_path / "mixed.jsonl"
        path.write_text('{"text": "fine"}\nnonsense\n')
        run = penstock(
            "submit", path, "--prompt", "{{ row.text }}", "--watch", "-m", MODEL, "--url", stack.url
        )
        assert run.lines[0]["status"] == "completed"
        assert run.code == 4

    def test_ctrl_c_detaches_and_cancel_cancels(self, penstock: Penstock, stack: Stack) -> None:
        with Client(stack.url) as client:
            endless = [{"text": "[[long]]"}] * 4
            job = client.jobs.submit(endless, prompt="{{ row.text }}", model=MODEL)
            command = [sys.executable, "-m", "penstock.api.cli", "watch", job.id]
            command += ["--url", stack.url]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watcher:
                assert watcher.stderr is not None
                first = watcher.stderr.readline()
                watcher.send_signal(signal.SIGINT)
                rest = watcher.stderr.read()
                assert watcher.wait(60) == 130
            assert job.id in first
            assert rest.splitlines()[-1] == (
                f"detached; the job goes on. penstock watch {job.id}  re-attaches"
            )
            assert not job.refresh().is_final
            [cancelled] = penstock("cancel", job.id, "--url", stack.url).lines
            assert cancelled["status"] == "cancelled"
            again = penstock("cancel", job.id, "--url", stack.url)
            assert (again.code, "nothing was done" in again.err) == (0, True)
            assert penstock("watch", job.id, "--url", stack.url).code == 3


class TestRun:
    def test_brings_the_rows_here_and_does_nothing_twice(
        self, penstock: Penstock, stack: Stack, rows: Path, tmp_path: Path
    ) -> None:
        command = ("run", rows, "--prompt", "{{ row.text }}", "-m", MODEL, "--url", stack.url)
        command = (*command, "--out", tmp_path / "out")
        first = penstock(*command)
        assert first.code == 0, first.err
        [job] = first.lines
        assert job["output"]["path"] == f"{stack.settings.results_dir}/{job['id']}"
        part = tmp_path / "out" / job["id"] / "rows" / "part-000000.parquet"
        assert pq.read_table(part).column("row_index").to_pylist() == list(range(20))
        assert f"the rows are in {part}" in first.err

        part.unlink()
        (Path(job["output"]["path"]) / "_SUCCESS").unlink()  # as on a machine that has it not
        second = penstock(*command)
        assert second.lines[0]["id"] == job["id"]
        assert "did this before; --again" in second.err
        assert pq.read_table(part).num_rows == 20
        assert penstock(*command, "--again").lines[0]["id"] != job["id"]

    def test_after_a_cancelled_run_the_same_command_still_finds_its_job(
        self, penstock: Penstock, stack: Stack, rows: Path, tmp_path: Path
    ) -> None:
        rows.write_text('{"text": "[[long]]"}')
        command = [sys.executable, "-m", "penstock.api.cli", "run", str(rows), "-m", MODEL]
        command += ["--prompt", "{{ row.text }}", "--url", stack.url, "--out", str(tmp_path)]

        def detach() -> str:
            """Run until the job is known, then leave with Ctrl-C."""
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
                assert run.stderr is not None
                job_id = run.stderr.readline().split()[0]
                run.send_signal(signal.SIGINT)
                run.stderr.read()
                assert run.wait(60) == 130
            return job_id

        cancelled = detach()
        penstock("cancel", cancelled, "--url", stack.url)
        second = detach()
        assert second != cancelled
        assert detach() == second
        penstock("cancel", second, "--url", stack.url)

    @pytest.mark.parametrize("moment", ["starting", "waiting"])
    def test_ctrl_c_says_what_it_means_at_any_moment(
        self, penstock: Penstock, stack: Stack, rows: Path, moment: str
    ) -> None:
        place = {"starting": "_submit", "waiting": "Server.wait_until_ready"}[moment]
        rows.write_text('{"text": "[[long]]"}')
        command = ("run", rows, "--prompt", "{{ row.text }}", "-m", MODEL, "--url", stack.url)
        with patch(f"penstock.api.cli_run.{place}", side_effect=KeyboardInterrupt):
            run = penstock(*command, "--again")
        assert run.code == 130
        told = {"starting": "the same command goes on", "waiting": "detached; the job goes on"}
        assert told[moment] in run.err
        with Client(stack.url) as client:
            for job in client.jobs.list():
                if not job.is_final:
                    job.cancel()

    def test_what_is_done_or_wrong_waits_for_no_engine(
        self,
        penstock: Penstock,
        redis_server: RedisServer,
        rows: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        command = ("run", rows, "--prompt", "{{ row.text }}", "-m", MODEL, "--out", tmp_path)
        command = (*command, "--data", tmp_path / "data", "--set", "grace_s=1")
        [job] = penstock(*command).lines

        def no_engine(*_: object) -> None:
            raise AssertionError("an engine was waited for")

        monkeypatch.setattr(LocalStack, "wait_until_ready", no_engine)
        assert penstock(*command).lines[0]["id"] == job["id"]
        wrong = penstock(*command[:2], "--prompt", "{{ row.txt }}", *command[4:])
        assert (wrong.code, "no column 'txt'" in wrong.err) == (2, True)

    def test_a_server_that_runs_is_used_if_it_has_the_model(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cli_server, "_PROBE_TIMEOUT_S", 60.0)  # a busy machine answers late
        printer, here = Printer(), replace(stack.settings, url=stack.url)
        assert running_server(printer, here, [MODEL]) == stack.url
        assert running_server(printer, here, []) == stack.url
        assert running_server(printer, here, [MODEL, "another"]) is None
        assert running_server(printer, replace(here, url=NOWHERE), []) is None

    def test_a_terminal_gets_samples(
        self, penstock: Penstock, stack: Stack, rows: Path, tmp_path: Path
    ) -> None:
        run = penstock(
            "run", rows, "--prompt", "{{ row.text }}", "-m", MODEL, "--url", stack.url,
            "--out", tmp_path / "out", "-o", "table",
        )  # fmt: skip
        assert run.code == 0
        assert len(run.out.splitlines()) == 1 + 5  # the head and five rows


class TestSettingsFile:
    def test_names_the_server_of_every_verb(
        self,
        penstock: Penstock,
        stack: Stack,
        rows: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        config = tmp_path / "penstock.toml"
        with serving(create_app(replace(stack.settings, api_key="from-the-file"))) as url:
            config.write_text(f'url = "{url}"\napi_key = "from-the-file"\n')
            command = ("run", rows, "--prompt", "{{ row.text }}", "-m", MODEL)
            run = penstock(*command, "--out", tmp_path / "out", "--config", config)
            assert run.code == 0, run.err
            assert "no server is named" not in run.err
            monkeypatch.setenv("PENSTOCK_CONFIG", str(config))
            assert penstock("show", run.lines[0]["id"]).code == 0
            assert penstock("jobs", "--api-key", "a-flag-outranks-it").code == 1


class TestAsking:
    def test_chat(self, penstock: Penstock, stack: Stack) -> None:
        said = penstock("chat", "hello", "-m", MODEL, "--url", stack.url)
        assert (said.code, len(said.out.split())) == (0, 8)
        [answer] = penstock(
            "chat", "hello", "-m", MODEL, "-s", "max_tokens=2", "-o", "json", "--url", stack.url
        ).lines
        assert answer["usage"]["completion_tokens"] == 2

    def test_models(self, penstock: Penstock, stack: Stack) -> None:
        found = penstock("models", "--url", stack.url).lines
        assert MODEL in {model["id"] for model in found}
        assert MODEL in penstock("models", "-o", "table", "--url", stack.url).out

    def test_doctor(
        self, penstock: Penstock, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor_server, "_TIMEOUT_S", 60.0)
        monkeypatch.setenv("PENSTOCK_REDIS_URL", stack.settings.redis_url or "")
        run = penstock("doctor", "--url", stack.url, "--api-key", "secret")
        found = {(line["topic"], line["name"]): line for line in run.lines}
        assert run.code == 0, run.out
        assert found["setting", "url"]["source"] == "flag"
        assert found["setting", "redis_url"]["source"] == "PENSTOCK_REDIS_URL"
        assert found["setting", "api_key"]["value"] == "***"
        assert "secret" not in run.out
        assert found["redis", "server"]["ok"]
        assert found["api", "ready"]["value"] == MODEL
        assert found["api", "worker"]["value"].endswith(f" serves {MODEL} made-up")

    @pytest.mark.parametrize(
        "redis_url",
        ["redis://u:hunter2@127.0.0.1:9/0", "redis://127.0.0.1:9?password=hunter2&db=1"],
    )
    def test_doctor_keeps_the_password_of_redis(
        self, penstock: Penstock, monkeypatch: pytest.MonkeyPatch, redis_url: str
    ) -> None:
        monkeypatch.setenv("PENSTOCK_REDIS_URL", redis_url)
        run = penstock("doctor", "--url", NOWHERE)
        assert "127.0.0.1:9" in run.out
        assert "***" in run.out
        assert "hunter2" not in run.out + run.err

    def test_doctor_without_a_server(self, penstock: Penstock) -> None:
        run = penstock("doctor", "--url", NOWHERE)
        assert run.code == 1
        [api] = [line for line in run.lines if line["topic"] == "api"]
        assert (api["ok"], NOWHERE in api["value"]) == (False, True)
