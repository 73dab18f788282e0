"""Is the engine the fastest on this machine? Every peer that installs, in one run.

    make bench-engine
    python benchmarks/engine_peers [penstock vllm …] [--rounds 3] [--works fixed-64 mixed-64]

All work on the same random model in the shape of Qwen2.5-0.5B, greedily and without early end, on
the same cores. They take turns, each time in a fresh process that has the machine to itself, in an
environment of its own. Each answer must have exactly the tokens that were asked for.
Whoever does not install, load or answer is reported with what it said last, and the rest goes on.

The first run installs the peers and makes the checkpoints: about 15 minutes, 15 GB.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import checkpoints
import gguf
from contender import Contender
from floor import Limits, Number, Shape, least_seconds
from peers import OPENVINO, PEERS, Peer
from report import QUIET, Record, Results, print_table
from rich.console import Console
from serving import Meter
from work import Work, kind_of, make_work

WARM_UP = "tiny-8"
HERE = Path(__file__).parent


def make_checkpoint(name: str, directory: Path, environments: Path) -> Path:
    """Return the checkpoint called `name`, made unless it is there already."""
    path = directory / name
    if path.exists():
        return path
    source = path if name == "qwen" else make_checkpoint("qwen", directory, environments)
    unfinished = directory / f"unfinished-{name}"
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    match name.removeprefix("qwen"):
        case "":
            checkpoints.make_qwen(unfinished)
        case "-w8a8":
            checkpoints.make_w8a8(source, unfinished)
        case "-bf16.gguf":
            checkpoints.make_gguf(source, unfinished, gguf.GGMLQuantizationType.BF16)
        case "-q8_0.gguf":
            checkpoints.make_gguf(source, unfinished, gguf.GGMLQuantizationType.Q8_0)
        case "-openvino-fp16":
            checkpoints.make_openvino(source, unfinished, environments / OPENVINO.name, "fp16")
        case "-openvino-int8":
            checkpoints.make_openvino(source, unfinished, environments / OPENVINO.name, "int8")
        case _:
            raise ValueError(f"there is no recipe for a checkpoint called {name!r}")
    unfinished.rename(path)
    return path


def prepare(peer: Peer, arguments: argparse.Namespace) -> list[str | Path]:
    """Install and convert whatever the peer needs, and return the command that starts it."""
    environments = arguments.cache / "environments"
    python: list[str | Path] = [sys.executable]
    if peer.environment is not None:
        directory = peer.environment.make(environments, shlex.split(arguments.pip_options))
        python = peer.environment.command(directory)
    checkpoint = make_checkpoint(peer.checkpoint, arguments.cache / "checkpoints", environments)
    return [*python, HERE / peer.script, checkpoint, str(arguments.threads), *peer.options]


def explain(error: Exception) -> str:
    """Return the last line that says what went wrong."""
    if isinstance(error, subprocess.CalledProcessError):
        said = f"{error.stdout or ''}\n{error.stderr or ''}"
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return [str(error), *lines[-1:], *errors[-1:]][-1][:300]
    return f"{type(error).__name__}: {error}"[:300]


def wait_for_quiet(patience_s: float) -> None:
    """Wait until others leave the machine alone for a second, but not for ever."""
    waiting = Meter()
    while waiting.read().wall_s < patience_s:
        second = Meter()
        subprocess.run(["sleep", "1"], check=True)
        if second.read().foreign_share <= QUIET:
            return


class Race:
    """Turns of peers, round by round, each in a fresh process."""

    def __init__(self, arguments: argparse.Namespace, results: Results, console: Console) -> None:
        self._arguments = arguments
        self._results = results
        self._console = console
        self._best: dict[str, float] = {}  # tokens per second, by peer
        self._begin_s = time.monotonic()

    def run(self, peers: list[Peer]) -> None:
        """Prepare all, then let them take turns."""
        commands: dict[Peer, list[str | Path]] = {}
        for peer in peers:
            with self._as_result(peer):
                commands[peer] = prepare(peer, self._arguments)
        self._begin_s = time.monotonic()
        for round_number in range(self._arguments.rounds):
            for peer, command in commands.items():
                if peer.name not in self._results.failures:
                    with self._as_result(peer):
                        self._take_turn(peer, command, round_number)
                self._results.write(self._arguments.json)

    def _take_turn(self, peer: Peer, command: list[str | Path], round_number: int) -> None:
        """Start a peer, let it do what it has time for, and end it."""
        arguments, results = self._arguments, self._results
        works = [make_work(name, turn=round_number) for name in arguments.works]
        works = [work for work in works if self._is_due(peer, work, round_number)]
        if not works:
            return
        log = arguments.cache / "logs" / f"{peer.name.replace(' ', '-')}.log"
        contender = Contender(command, log=log, limit_s=arguments.load_limit)
        results.loaded_s[peer.name] = contender.loaded_s
        try:
            contender.run(make_work(WARM_UP), arguments.limit)
            for work in works:
                if not self._is_due(peer, work, round_number):
                    continue
                wait_for_quiet(arguments.patience)
                turn = contender.run(work, arguments.limit)
                results.records.append(Record(peer.name, work.name, round_number, turn))
                results.resident_bytes[peer.name] = contender.resident_bytes()
                best = max(self._best.get(peer.name, 0.0), turn.tokens_per_s)
                self._best[peer.name] = best
                self._console.print(
                    f"round {round_number + 1}  {work.name:10s} {peer.name:28s} "
                    f"{turn.tokens_per_s:7.0f} tokens/s  {turn.wall_s:6.1f} s  "
                    f"processor {turn.own_s:6.1f} s  others {turn.foreign_share:4.0%}",
                    highlight=False,
                )
        finally:
            contender.close()

    def _is_due(self, peer: Peer, work: Work, round_number: int) -> bool:
        """Whether it can be expected to be done in time; slow ones are not asked again."""
        arguments = self._arguments
        if kind_of(work.name) not in peer.kinds:
            return False
        if time.monotonic() - self._begin_s > arguments.budget:
            return False
        best = self._best.get(peer.name)
        expected_s = 0.0 if best is None else work.num_tokens / best
        return expected_s <= (arguments.slow if round_number else arguments.limit)

    @contextmanager
    def _as_result(self, peer: Peer) -> Iterator[None]:
        """Take a peer's failure for a result."""
        try:
            yield
        except Exception as error:
            self._results.failures[peer.name] = explain(error)
            self._console.print(
                f"{peer.name} failed: {explain(error)}", style="red", highlight=False, markup=False
            )


def floors(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return by kind of number and work the tokens per second that no engine can exceed here."""
    command = [sys.executable, HERE.parent / "cpu_roofline.py", "--rows", "64", "-o", "json"]
    measured = subprocess.run(command, check=True, capture_output=True, text=True)
    peaks: dict[str, float] = json.loads(measured.stdout)["peaks"]  # of one core, in billions
    if "bfloat16" not in peaks:
        return {}
    read = peaks["read 256 MiB"] * 1e9
    bf16 = Number(2, peaks["bfloat16"] * 1e9 * arguments.threads)
    limits = {"bf16": Limits(read, layers=bf16, head=bf16)}
    if "int8" in peaks:
        int8 = Number(1, peaks["int8"] * 1e9 * arguments.threads)
        limits["int8"] = Limits(read, layers=int8, head=bf16)
    shape = Shape.of(arguments.cache / "checkpoints" / "qwen")
    works = [make_work(name) for name in arguments.works if kind_of(name) != "shared"]
    return {
        f"this machine's limit, {number}": {
            work.name: work.num_tokens / least_seconds(work, shape, limit) for work in works
        }
        for number, limit in limits.items()
    }


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
    )
    named = {name.strip(): value.strip() for name, value in fields.items()}
    command = ["git", "-C", HERE, "describe", "--always", "--dirty"]
    revision = subprocess.run(command, check=False, capture_output=True, text=True)
    return {
        "processor": named.get("model name", platform.processor()),
        "vendor": named.get("vendor_id", ""),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "revision": revision.stdout.strip(),
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "penstock-bench"
    parser = argparse.ArgumentParser(
        prog="engine_peers", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("peers", nargs="*", help="only those whose names begin so")
    add("--works", nargs="*", default=["fixed-32", "fixed-64", "mixed-64", "shared-64"])
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--limit", type=float, default=240, help="seconds for one work; longer ones are left out")
    add("--load-limit", type=float, default=400, help="seconds for loading")
    add("--slow", type=float, default=60, help="what takes more seconds is done in one round only")
    add("--budget", type=float, default=3600, help="seconds after which nothing new is begun")
    add("--patience", type=float, default=15, help="seconds to wait for others to be quiet")
    add("--cache", type=Path, default=cache, help="environments, checkpoints, logs")
    add("--json", type=Path, help="where the results go; by default into the cache")
    add("--pip-options", default="", help="given to every pip install")
    arguments = parser.parse_args()
    arguments.json = arguments.json or arguments.cache / "results.json"
    return arguments


def main() -> None:
    """Run the benchmark."""
    arguments = parse()
    console = Console(width=max(120, Console().width), soft_wrap=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    for name in ("environments", "checkpoints", "logs"):
        (arguments.cache / name).mkdir(parents=True, exist_ok=True)
    results = Results(machine())
    peers = [
        peer
        for peer in PEERS
        if peer.vendor in ("", results.machine["vendor"])
        and (not arguments.peers or peer.name.startswith(tuple(arguments.peers)))
        and {*peer.kinds} & {*map(kind_of, arguments.works)}
    ]
    Race(arguments, results, console).run(peers)
    if results.records:
        results.floors.update(floors(arguments))
    print_table(results, console)
    results.write(arguments.json)
    console.print(f"everything in {arguments.json}", highlight=False)


if __name__ == "__main__":
    main()
