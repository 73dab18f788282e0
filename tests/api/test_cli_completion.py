"""Completion: in a real bash, and what the server's names add to it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
import typer

# Typer has no public name for what a shell calls.
from typer.completion import completion_init, shell_complete  # pyright: ignore[reportPrivateImportUsage]

from penstock.api import known_names
from penstock.api.cli import make_app
from penstock.api.cli_completion import Shell
from penstock.api.client import Client

from .command import Penstock
from .conftest import IDLE_MODEL, MODEL, Stack
from .scripted import connect, job_json

PROGRAMS = Path(sys.executable).parent
NOWHERE = "http://127.0.0.1:9"
_TAB = """
source <(penstock completion bash)
while read -ra COMP_WORDS; do
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _penstock_completion penstock
    echo "${COMPREPLY[*]}"
done
"""


def environ(url: str = NOWHERE) -> dict[str, str]:
    own = {"PENSTOCK_URL": url, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    others = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    return {**others, **own}


def tab(*lines: str, url: str = NOWHERE) -> list[list[str]]:
    """What bash offers when somebody presses Tab at the end of each line."""
    bash = shutil.which("bash")
    assert bash is not None
    run = subprocess.run(
        [bash, "--norc", "-c", _TAB],
        input="\n".join(lines) + "\n",
        env=environ(url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return [line.split() for line in run.stdout.splitlines()]


class TestInBash:
    def test_words(self) -> None:
        offered = {
            "penstock wat": ["watch"],
            "penstock workflow prev": ["preview"],
            "penstock jobs --status can": ["cancelled"],
            "penstock watch job_": [],  # the server is away: not a word about it
        }
        assert dict(zip(offered, tab(*offered), strict=True)) == offered

    def test_ids_of_jobs(self, stack: Stack) -> None:
        with Client(stack.url) as client:
            job = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=MODEL)
            job.wait(timeout_s=60)
        deadline = time.monotonic() + 60  # a busy machine may be too slow now and then
        while job.id not in tab("penstock show job_", url=stack.url)[0]:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "penstock wat"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "penstock wat", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_other_shells(penstock: Penstock, shell: str, asked: dict[str, str]) -> None:
    script = penstock("completion", shell).out
    assert f"_PENSTOCK_COMPLETE=complete_{shell}" in script
    command = [PROGRAMS / "penstock"]
    asked = {**environ(), **asked, "_PENSTOCK_COMPLETE": f"complete_{shell}"}
    run = subprocess.run(command, env=asked, capture_output=True, text=True, check=True)
    assert "watch" in run.stdout


def test_an_unknown_shell(penstock: Penstock) -> None:
    assert penstock("completion", "tcsh").code == 2


class TestNames:
    @pytest.fixture
    def context(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> typer.Context:
        monkeypatch.setattr(known_names, "_LONGEST_S", 60.0)
        context = typer.Context(typer.main.get_command(make_app()))
        context.params = {"url": stack.url}
        return context

    def test_jobs_and_runs(self, stack: Stack, context: typer.Context) -> None:
        with Client(stack.url) as client:
            job = client.jobs.submit(
                [{"text": "x"}], prompt="{{ row.text }}", model=IDLE_MODEL, name="mine"
            )
            try:
                offered = dict(known_names.jobs_and_runs(context, "job_"))
                assert offered[job.id] == "queued"
                assert job.id not in dict(known_names.jobs_and_runs(context, "run_"))
                assert known_names.jobs_and_runs(context, job.id) == [(job.id, "queued")]
                assert ("latest", "newest") in known_names.jobs_and_runs(context, "")
                assert ("latest", "newest") not in known_names.whole_ids(context, "")
                assert (job.id, "queued") in known_names.whole_ids(context, "job_")
            finally:
                job.cancel()

    def test_models(self, context: typer.Context) -> None:
        assert (MODEL, "") in known_names.models(context, "")
        assert known_names.models(context, "fake:n") == [(IDLE_MODEL, "")]

    @pytest.mark.parametrize("url", [NOWHERE, "not a url"])
    def test_trouble_is_not_told(self, context: typer.Context, url: str) -> None:
        context.params = {"url": url}
        assert known_names.models(context, "") == []


HOSTILE = [
    "\\$(id)",
    "$(id)",
    "`id`",
    "'id'",
    '"id"',
    "a\nid",
    "a\tid",
    "(id)",
    "a id",
    "a\\",
    "a;id",
]


class TestHostileNames:
    """Some shells evaluate what they are offered: whoever names something may not write that."""

    @pytest.mark.parametrize("shell", Shell)
    @pytest.mark.parametrize(
        ("line", "known"), [("show job_", "job_1"), ("submit --model m", "m1")]
    )
    def test_no_shell_gets_them(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        shell: Shell,
        line: str,
        known: str,
    ) -> None:
        def offered(*hostile: str) -> str:
            """What the shell is told, to the letter."""
            monkeypatch.setattr(known_names, "open_client", lambda *_, **__: knowing(*hostile))
            shell_complete(command, {}, "penstock", "_X", f"complete_{shell}")
            return capsys.readouterr().out

        monkeypatch.setattr(known_names, "_LONGEST_S", 60.0)
        command = typer.main.get_command(make_app())
        for name, value in {
            "COMP_WORDS": f"penstock {line}",
            "COMP_CWORD": str(len(line.split())),
            "_TYPER_COMPLETE_ARGS": f"penstock {line}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }.items():
            monkeypatch.setenv(name, value)
        completion_init()
        assert known in offered()
        assert offered(*HOSTILE) == offered()


def knowing(*hostile: str) -> Client:
    """A client of a server where all that can be named has one of these names, and of plain ids."""
    jobs = [job_json(id="job_1", name="-".join(hostile) or None)]
    jobs += [job_json(id=f"job_{name}") for name in hostile]
    models = [{"id": "m1"}, *({"id": f"m{name}"} for name in hostile)]

    def answer(request: httpx2.Request) -> httpx2.Response:
        data = {"/v1/models": models, "/v1/jobs": jobs}.get(request.url.path, [])
        return httpx2.Response(200, json={"object": "list", "data": data, "has_more": False})

    return connect(answer)
