"""The local stack: its parts are restarted, stopped in good order, and die with their parent."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pyarrow.parquet as pq
import pytest

from penstock.api import child as child_module, cli_serve
from penstock.api.child import Child, describe_exit
from penstock.api.client import Client
from penstock.api.local import LocalStack, StackFailed, StackOptions
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from tests.ports import reserved_port
from tests.waiting import PATIENCE_S

MODEL = "fake:tokens=4"


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def get(url: str) -> httpx2.Response:
    return httpx2.get(url, follow_redirects=True, timeout=PATIENCE_S)


@pytest.fixture
def make_child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def make(script: str, grace_s: float = 5.0) -> Child:
        command = [sys.executable, "-u", "-c", textwrap.dedent(script)]
        log = tmp_path / "logs" / "child.log"
        children.append(Child("part", command, environ=os.environ, log_path=log, grace_s=grace_s))
        return children[-1]

    yield make
    for child in children:
        child.stop()


class TestChild:
    def test_start_and_stop(self, make_child: Callable[..., Child]) -> None:
        child = make_child("import time; print('hello'); time.sleep(60)")
        assert not child.is_alive
        child.start()
        pid = child.pid
        assert pid is not None
        assert eventually(lambda: child.last_words() == "hello")
        assert child.is_alive
        assert child.look_after() is None
        child.stop()
        assert not child.is_alive
        assert not is_running(pid)
        child.stop()

    def test_is_started_again_after_a_pause_that_grows(
        self, make_child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(child_module, "FIRST_PAUSE_S", 0.05)
        child = make_child("raise SystemExit(7)")
        child.start()
        told: list[str] = []

        def look() -> bool:
            told.extend(filter(None, [child.look_after()]))
            return len(told) == 3

        assert eventually(look)
        assert [line.partition(";")[0] for line in told] == ["part exited with status 7"] * 3
        pauses = [float(line.split(" in ")[1].split(" s ")[0]) for line in told]
        assert pauses == [0.05, 0.1, 0.2]
        assert child.num_failures == 3

    def test_one_that_ignores_sigterm_is_killed_with_all_it_started(
        self, make_child: Callable[..., Child]
    ) -> None:
        child = make_child(
            """
            import signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print(subprocess.Popen(["sleep", "60"]).pid)
            time.sleep(60)
            """,
            grace_s=0.2,
        )
        child.start()
        assert eventually(lambda: child.last_words().isdigit())
        grandchild = int(child.last_words())
        child.stop()
        assert eventually(lambda: not is_running(grandchild))

    def test_says_how_it_ended(self) -> None:
        assert describe_exit(3) == "exited with status 3"
        assert describe_exit(-signal.SIGKILL) == "was killed by SIGKILL"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackFailed, match=rf"127\.0\.0\.1:{port}.*in use.*--port 0"):
            LocalStack(Settings(data=str(tmp_path)), StackOptions(port=port))


def test_a_flag_is_not_overruled_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.api.local import _child_environ

    monkeypatch.setenv("PENSTOCK_MAX_NUM_SEQS", "7")
    monkeypatch.setenv("PENSTOCK_CONFIG", "somewhere.toml")
    environ = _child_environ(Settings(data=str(tmp_path)))
    assert "PENSTOCK_MAX_NUM_SEQS" not in environ
    assert "PENSTOCK_CONFIG" not in environ
    assert environ["PENSTOCK_DATA"] == str(tmp_path)
    assert environ["PATH"] == os.environ["PATH"]


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[LocalStack]:
    """A whole stack; asks for `redis_server` to be skipped where there is no server."""
    data = tmp_path_factory.mktemp("stack")
    settings = Settings(data=str(data), models=(MODEL,), lease_s=2.0, grace_s=5.0)
    with LocalStack(settings, StackOptions(flower_port=0)) as stack:
        stack.wait_until_ready(3 * PATIENCE_S)
        yield stack


class TestStack:
    def test_serves_a_chat_a_job_and_flower(self, stack: LocalStack, tmp_path: Path) -> None:
        with Client(stack.url) as client:
            assert client.chat("hello").text
            job = client.jobs.submit(
                [{"text": str(n)} for n in range(10)], prompt="{{ row.text }}", output=tmp_path
            )
            assert job.wait(timeout_s=PATIENCE_S).counts.succeeded == 10
            assert job.to_arrow().num_rows == 10
        assert stack.flower_url is not None
        flower = stack.flower_url

        def flower_answers() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return get(f"{flower}/workers").status_code == 200
            return False

        assert eventually(flower_answers)
        page = get(f"{flower}/tasks").text  # each leads to the other
        assert f'<meta name="penstock-pages" content="{stack.url}">' in page
        assert get(f"{stack.url}/v1/me").json()["flower_url"] == flower
        assert get(f"{flower}/api/workers").status_code == 401  # nobody has a password

    def test_nothing_of_it_listens_but_to_this_machine(self, stack: LocalStack) -> None:
        pids = {os.getpid(), *_descendants(os.getpid())}
        inodes = {inode for pid in pids for inode in _sockets_of(pid)}
        assert {host for host, inode in _listening() if inode in inodes} == {"0100007F"}
        redis_socket = Path(urlsplit(stack.settings.redis_url or "").path)
        assert redis_socket.stat().st_mode & 0o077 == 0
        assert redis_socket.parent.stat().st_mode & 0o077 == 0

    def test_a_second_stack_is_refused_the_same_directory(self, stack: LocalStack) -> None:
        with pytest.raises(StackFailed, match=f"in use: another Penstock at {stack.url} runs"):
            LocalStack(Settings(data=stack.settings.data, models=(MODEL,))).start()

    def test_redis_comes_back_and_finished_jobs_are_still_known(self, stack: LocalStack) -> None:
        with Client(stack.url, max_retries=30) as client:
            rows = [{"text": "x"}] * 3
            job = client.jobs.submit(rows, prompt="{{ row.text }}").wait(timeout_s=PATIENCE_S)
            [server] = _descendants(os.getpid(), "unixsocket:", stack.settings.data)
            os.kill(server, signal.SIGKILL)
            assert eventually(lambda: not is_running(server))
            assert client.jobs.get(job.id).counts.succeeded == 3
            again = client.jobs.submit(rows, prompt="{{ row.text }}").wait(timeout_s=PATIENCE_S)
            assert again.counts.succeeded == 3

    @pytest.mark.parametrize("part", ["api", "worker"])
    def test_what_is_killed_comes_back_and_nobody_is_refused(
        self, stack: LocalStack, part: str
    ) -> None:
        [child] = [child for child in stack.children if child.name.startswith(part)]
        before = child.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        with Client(stack.url) as client:
            assert client.chat("hello", max_tokens=2).text  # waits in our socket, or for the worker
        assert child.pid != before


def test_stop_leaves_nothing_behind(tmp_path: Path, redis_server: RedisServer) -> None:
    with LocalStack(Settings(data=str(tmp_path), models=(MODEL,))) as stack:
        stack.wait_until_up()
        pids = [child.pid for child in stack.children if child.pid]
        assert all(map(is_running, pids))
        stack.stop()
        assert not any(map(is_running, pids))
        with pytest.raises(httpx2.ConnectError):
            get(f"{stack.url}/healthz")
        stack.stop()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_all_parts_end_with_up(
    signum: signal.Signals, tmp_path: Path, redis_server: RedisServer
) -> None:
    """SIGTERM stops them in good order; after a SIGKILL the kernel sees to it."""
    command = [sys.executable, "-m", "penstock.api.cli", "up", "--port", "0", "--no-flower"]
    command += ["--model", MODEL, "--data", str(tmp_path / "data"), "--set", "grace_s=3"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    ) as up:
        assert up.stdout is not None
        printed = ""
        while "Ctrl-C stops it" not in printed:
            line = up.stdout.readline()
            assert line, printed
            printed += line
        children = _descendants(up.pid)
        assert len(children) >= 3  # Redis, the API, the worker; the engine has a process, too
        up.send_signal(signum)
        assert up.wait(PATIENCE_S) == (0 if signum is signal.SIGTERM else -signum)
        assert eventually(lambda: not any(map(is_running, children)))
    assert "/v1/chat/completions" in printed


def test_a_model_that_is_none_is_named_at_once(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = Settings(data=str(tmp_path), models=("fake:nonsense=1",))
    with (
        LocalStack(settings) as stack,
        pytest.raises(StackFailed, match=r"^cannot serve .*unknown key 'nonsense'"),
    ):
        stack.wait_until_ready(3 * PATIENCE_S)


def test_a_port_taken_from_flower_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = StackOptions(flower_port=taken.getsockname()[1])
        with pytest.raises(StackFailed, match=r"--flower-port 0 picks .* --no-flower"):
            LocalStack(Settings(data=str(tmp_path)), options)


def _sockets_of(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets; none of one that has ended."""
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed just now
                if descriptor.readlink().name.startswith("socket:["):
                    yield descriptor.readlink().name[8:-1]


def _listening() -> Iterator[tuple[str, str]]:
    """Host, as the kernel writes it, and inode of every TCP socket that listens."""
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[1].partition(":")[0], fields[9]


def _descendants(pid: int, *words: str) -> set[int]:
    """All processes below one, or those whose command line holds certain words."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
    found: set[int] = set()
    while new := {p for p, parent in parents.items() if parent in found | {pid}} - found:
        found |= new
    return {p for p in found if all(word in _command_of(p) for word in words)}


def _command_of(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return ""


class _Looked(Exception):
    pass


@pytest.mark.parametrize("is_taken", [False, True])
def test_flower_goes_elsewhere_where_its_usual_port_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_taken: bool
) -> None:
    def look(settings: Settings, options: StackOptions, **_: object) -> None:
        assert options.flower_port == (0 if is_taken else port)
        raise _Looked

    with reserved_port() as port, contextlib.ExitStack() as taken:
        if is_taken:
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        monkeypatch.setattr("penstock.api.cli_serve._FLOWER_PORT", port)
        monkeypatch.setattr("penstock.api.local.LocalStack", look)
        with pytest.raises(_Looked):
            cli_serve.up(data=str(tmp_path))


def test_run_goes_on_where_ctrl_c_left_it(tmp_path: Path, redis_server: RedisServer) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"text": "row {number}"}}\n' for number in range(320)))
    command = [sys.executable, "-m", "penstock.api.cli", "run", str(rows)]
    command += ["--prompt", "{{ row.text }}", "--model", "fake:step_ms=30"]
    command += ["--set", "max_num_seqs=16", "--set", "grace_s=0.5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as first:
        assert first.stderr is not None
        said = ""
        while re.search(r" running [1-9]", said) is None:  # some rows have landed
            line = first.stderr.readline()
            assert line, said
            said += line
        first.send_signal(signal.SIGINT)
        rest = first.stderr.read()
        assert first.wait(PATIENCE_S) == 130, rest
    assert "The same command goes on from here" in rest
    [job_dir] = (tmp_path / "out").iterdir()
    landed = {part: part.stat().st_mtime_ns for part in (job_dir / "rows").glob("*.parquet")}
    assert 0 < len(landed) < 5

    second = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert second.returncode == 0, second.stderr
    assert [job_dir] == list((tmp_path / "out").iterdir())
    assert all(part.stat().st_mtime_ns == at for part, at in landed.items())
    table = pq.read_table(job_dir / "rows")
    assert sorted(table.column("row_index").to_pylist()) == list(range(320))
