"""`Client("local://")`: a whole stack without a server, shared, and gone with its last user."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.api import local_link
from penstock.api.address import Address
from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import MissingPackage, PenstockError, StackFailed
from penstock.api.local_link import LocalLink
from penstock.api.local_place import LocalPlace
from penstock.api.workflow import Workflow
from penstock.jobs.redis_server import RedisServer
from tests.waiting import wait_for

MODEL = "fake:tokens=4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Path:
    """A directory whose path is too long for a socket, if there is a Redis at all."""
    return tmp_path_factory.mktemp("longer-than-the-path-of-a-socket-may-be-" * 3)


@pytest.fixture(scope="module")
def client(data: Path) -> Iterator[Client]:
    with Client("local://", model=MODEL, data=data) as client:
        yield client


def processes_of(data: Path) -> list[str]:
    """The commands of all that runs over a data directory, as they or their environment say."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            environ = (process / "environ").read_bytes()
        except (OSError, ValueError):  # no process, or not ours, or gone
            continue
        if os.fsencode(data) in command + environ and process.name != str(os.getpid()):
            found.append(os.fsdecode(command).replace("\0", " "))
    return found


class TestSharedStack:
    def test_chats(self, client: Client) -> None:
        assert client.chat("hello", max_tokens=2).text
        assert "".join(delta.text for delta in client.chat("hello", max_tokens=2, stream=True))

    def test_runs_jobs(self, client: Client) -> None:
        job = client.jobs.submit([{"text": "a"}, {"text": "b"}], prompt="{{ row.text }}")
        assert job.wait(timeout_s=180).counts.succeeded == 2
        assert len(list(job.results())) == job.to_arrow().num_rows == 2

    def test_runs_workflows(self, client: Client) -> None:
        workflow = Workflow("words")
        workflow.input("rows").generate("said", model=MODEL, prompt="{{ row.text }}")
        run = client.workflows.run(workflow, {"rows": [{"text": "a"}]})
        assert run.wait(timeout_s=180).status == "completed"

    def test_gathers_requests(self, client: Client) -> None:
        with client.batcher(max_wait_s=0) as batch:
            assert batch.chat("hello", max_tokens=1).text

    def test_binds_openais_client(self, client: Client) -> None:
        messages: Any = [{"role": "user", "content": "hello"}]
        with client.openai() as bound:
            answer = bound.chat.completions.create(model=MODEL, messages=messages, max_tokens=2)
            assert answer.choices[0].message.content

    def test_is_shared_with_a_second_client_which_may_leave_first(
        self, client: Client, data: Path
    ) -> None:
        with Client(f"local://?data={data}") as second:
            assert second.models.ready() == client.models.ready()
        assert client.models.ready()

    def test_is_shared_with_an_asynchronous_client(self, client: Client, data: Path) -> None:
        async def ask() -> list[str]:
            async with AsyncClient("local://", data=data) as twin:
                answers = await asyncio.gather(*(twin.chat("x", max_tokens=1) for _ in range(5)))
                messages: Any = [{"role": "user", "content": "hello"}]
                async with twin.openai() as bound:
                    said = await bound.chat.completions.create(model=MODEL, messages=messages)
                return [*(answer.text for answer in answers), str(said.choices[0].message.content)]

        assert client.models.ready()
        assert all(asyncio.run(ask()))

    def test_is_shared_with_another_process(self, client: Client, data: Path) -> None:
        script = (
            f"from penstock import Client; print(Client('local://?data={data}').models.ready())"
        )
        assert client.models.ready()
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=180
        )
        assert done.stdout == f"{[MODEL]}\n"
        assert client.models.ready()  # the other one has left, without a word

    def test_names_what_it_serves_to_whom_wants_another_model(
        self, client: Client, data: Path
    ) -> None:
        assert client.models.ready()
        with (
            Client("local://", data=data, model="fake:tokens=5") as other,
            pytest.raises(StackFailed, match="serves fake:tokens=4, not fake:tokens=5"),
        ):
            other.models.ready()

    def test_lets_nobody_in_who_has_no_key(self, client: Client, data: Path) -> None:
        link = LocalLink(LocalPlace.read("local://", data=data))
        url, key = link.attach()
        try:
            with Client(url, key) as friend, Client(url) as stranger:
                assert friend.models.list()
                with pytest.raises(PenstockError, match="key"):
                    stranger.models.list()
            assert link.directory.stat().st_mode & 0o077 == 0
        finally:
            link.release()


def test_what_is_killed_leaves_nothing_behind_and_its_job_goes_on_with_the_next(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script = """
        from penstock import Client
        client = Client("local://", data={data!r}, model="fake:step_ms=20")
        rows = [{{"text": str(number)}} for number in range(200)]
        job = client.jobs.submit(rows, prompt="{{{{ row.text }}}}", sampling={{"max_tokens": 8}})
        print(job.id, flush=True)
        job.wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(script.format(data=str(tmp_path)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        assert processes_of(tmp_path)
        process.kill()
    with Client("local://", data=tmp_path, model="fake:step_ms=20") as client:  # waits for the end
        job = client.jobs.get(job_id)
        assert job.wait(timeout_s=180).counts.succeeded == 200
        assert len(processes_of(tmp_path)) > 3
    assert all("local_keeper" in line for line in processes_of(tmp_path))  # and it is at its end
    wait_for(lambda: not processes_of(tmp_path), "the stack to end")


def test_a_stack_that_was_killed_is_started_again(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with Client("local://", data=tmp_path, model=MODEL) as client:
        job = client.jobs.submit([{"text": "a"}], prompt="{{ row.text }}")
        job.wait(timeout_s=180)
        [keeper] = [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if "local_keeper\0--listener" in _command(process)
            and str(tmp_path) in _command(process)
        ]
        os.kill(keeper, signal.SIGKILL)
        assert client.jobs.get(job.id).counts.succeeded == 1
    wait_for(lambda: not processes_of(tmp_path), "the stack to end")


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def test_a_client_that_nobody_closes_ends_with_its_process(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script = f"from penstock import Client; c = Client('local://?data={tmp_path}&model={MODEL}')"
    script += "; print(c.chat('x', max_tokens=1).text)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    wait_for(lambda: not processes_of(tmp_path), "the stack to end")


def test_a_model_that_is_none_is_named(tmp_path: Path, redis_server: RedisServer) -> None:
    with (
        Client("local://", data=tmp_path, model="fake:nonsense=1") as client,
        pytest.raises(StackFailed, match=r"cannot serve .*unknown key 'nonsense'"),
    ):
        client.chat("x")
    wait_for(lambda: not processes_of(tmp_path), "the stack to end")


@pytest.mark.parametrize("part", ["", "api"])
def test_may_be_closed_while_it_starts(
    part: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    link = LocalLink(LocalPlace.read("local://", data=tmp_path, model=MODEL))
    errors: list[BaseException] = []

    def attach() -> None:
        try:
            link.attach()
        except PenstockError as error:
            errors.append(error)

    thread = threading.Thread(target=attach)
    thread.start()
    if part:
        wait_for(lambda: any(" api " in line for line in processes_of(tmp_path)), "the API")
    link.release()
    thread.join()
    assert "closed while" in str(errors[0])
    wait_for(lambda: not processes_of(tmp_path), "the stack to end")


def test_a_keeper_that_cannot_even_begin_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        Client("local://", data=tmp_path) as client,
        pytest.raises(StackFailed, match=r"ended before it was ready; its log: .*local\.log"),
    ):
        client.models.list()


def test_a_directory_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        Client("local://", data=tmp_path / "file" / "data") as client,
        pytest.raises(StackFailed, match=r"cannot run a stack in .*/file/data: .*Not a directory"),
    ):
        client.models.list()


def test_names_the_packages_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_link, "_NEEDED", ("json", "no_such_package"))
    with (
        Client("local://", data=tmp_path) as client,
        pytest.raises(
            MissingPackage, match=r"needs no_such_package: pip install 'penstock\[all\]'"
        ),
    ):
        client.models.list()


class TestAddress:
    def test_reads_what_the_url_says_and_arguments_come_first(self, tmp_path: Path) -> None:
        url = f"local://?data={tmp_path}/a&model=m1,m2"
        assert LocalPlace.read(url) == LocalPlace(tmp_path / "a", ("m1", "m2"))
        place = LocalPlace.read(url, data=tmp_path / "b", model="m3")
        assert place == LocalPlace(tmp_path / "b", ("m3",))

    def test_takes_the_rest_from_the_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path))
        assert LocalPlace.read("local://") == LocalPlace(tmp_path, None)
        address = Address.resolve(None, None, {"PENSTOCK_URL": "local://"})
        assert address.local == LocalPlace(tmp_path, None)
        assert repr(Client("local://")) == f"<Client local://?data={tmp_path}>"

    @pytest.mark.parametrize("url", ["local://host", "local:///path", "local://?dta=x"])
    def test_names_what_it_cannot_mean(self, url: str) -> None:
        with pytest.raises(PenstockError, match=r"looks like local://\?data=DIR&model=MODEL, got"):
            Client(url)

    def test_a_server_elsewhere_takes_no_model(self) -> None:
        with pytest.raises(PenstockError, match="model and data are for local://"):
            Client("http://host", model="m")
