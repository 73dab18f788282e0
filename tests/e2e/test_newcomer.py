"""A newcomer's first quarter of an hour, from the wheel, in an environment that has nothing else.

`make test` builds that environment, `.venv/newcomer`: the dependencies as the project's own files
name them, and none of the development tools. The wheel is built here, from the tree as it is.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.ports import reserved_port
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "newcomer" / "bin"
ROWS = 600

SUBMIT = f"""
import pandas as pd
from penstock import Client

frame = pd.DataFrame({{"doc": range({ROWS}), "a": range({ROWS}), "b": [7] * {ROWS}}})
job = Client().jobs.submit(
    frame,
    prompt="Add {{{{ row.a % 50 }}}} and {{{{ row.b }}}}.",
    sampling={{"temperature": 0, "max_tokens": 16}},
    id="doc",
)
print(job.id)
"""

READ = """
import json, sys
import duckdb
import pandas as pd
import polars as pl
from penstock import Client

job = Client().jobs.get(sys.argv[1])
files = f"{job.output_path}/rows/*.parquet"
of_pandas = pd.read_parquet(f"{job.output_path}/rows")
of_polars = pl.read_parquet(files)
of_duckdb = duckdb.sql(f"select * from '{files}'")
by_client = job.to_pandas()
sums = (by_client.a % 50 + by_client.b).astype(str)
right = [told in output for told, output in zip(sums, by_client.output)]
print(json.dumps({
    "rows": [len(of_pandas), of_polars.height, len(of_duckdb), len(by_client)],
    "outputs_agree": sorted(of_pandas.output) == sorted(of_polars["output"].to_list())
    == sorted(row[0] for row in of_duckdb.select("output").fetchall()) == sorted(by_client.output),
    "in_order": by_client.doc.tolist() == list(range(len(by_client))),
    "numbers": str(by_client.a.dtype),
    "right": sum(right) / len(right),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a wheel, installed where nobody has installed anything by hand."""
    if not BIN.exists():
        pytest.fail(f"{BIN} is missing: `make test` builds it")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # From a copy, since a build leaves its own folders beside what it builds.
    copy = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(copy)], check=True)
    [built] = folder.glob("*.whl")
    into = ["--python", str(BIN / "python"), "install", "--no-deps", "--force-reinstall"]
    subprocess.run([*pip, *into, str(built)], check=True)
    return built


@contextmanager
def up(home: Path, environ: Mapping[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`penstock up`, until it is told to stop."""
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "penstock", "up", "--port", str(port), "--no-flower"],
            cwd=home, env=environ, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, (home / "up.log").read_text()


def child_called(parent: subprocess.Popen[bytes], verb: str) -> int:
    """The process id of the one child that runs a verb of `penstock`."""
    tasks = Path(f"/proc/{parent.pid}/task").glob("*/children")  # each thread has its own
    pids = " ".join(map(read, tasks)).split()
    [found] = [pid for pid in pids if verb in read(Path(f"/proc/{pid}/cmdline")).split("\0")]
    return int(found)


def read(path: Path) -> str:
    """Read what is told of a process or a thread; nothing when it has ended."""
    with suppress(OSError):
        return path.read_text()
    return ""


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


def test_from_the_wheel_to_rows_in_three_readers(wheel: Path, port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{port}"
    environ = {
        "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(tmp_path),
        "PENSTOCK_URL": url,
        "COLUMNS": "100",
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def answers(path: str) -> bool:
        try:
            return httpx2.get(url + path, timeout=5).status_code == 200
        except httpx2.HTTPError:
            return False

    face = run("python", "-c", "import penstock; print(penstock.__file__)").stdout
    assert Path(face).is_relative_to(BIN.parent), "the tree itself was imported, not the wheel"
    assert re.fullmatch(r"penstock \d+\.\d+\.\d+\n", run("penstock", "--version").stdout)

    with up(tmp_path, environ, port) as stack:
        wait_for(lambda: answers("/readyz"), "a stack that is ready", patience_s=240)
        job_id = run("python", "-c", SUBMIT).stdout.strip()
        with subprocess.Popen(
            ["penstock", "watch", job_id, "-o", "json"],
            executable=BIN / "penstock", cwd=tmp_path, env=environ,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as watcher:  # fmt: skip
            api = child_called(stack, "api")
            os.kill(api, signal.SIGKILL)
            watched, noted = watcher.communicate(timeout=600)
        assert watcher.returncode == 0, noted
        assert json.loads(watched)["status"] == "completed"
        again = json.loads(run("penstock", "watch", job_id, "-o", "json").stdout)
        assert again["counts"]["succeeded"] == ROWS
        assert child_called(stack, "api") != api

        read = json.loads(run("python", "-c", READ, job_id).stdout)
    assert read["rows"] == [ROWS] * 4
    assert read["outputs_agree"]
    assert read["in_order"]
    assert read["numbers"] == "int64"
    assert read["right"] > 0.9, "the demo model adds better than this"
