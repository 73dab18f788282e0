import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.app import create_app
from penstock.jobs.ending import cancel
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.keeper import Keeper
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir

from .live import MODEL, PATIENCE_S, SLOW, Live, live_queue, stop, wait_for


def prompts_of(num_rows: int) -> list[str]:
    return [f"prompt {number}" for number in range(num_rows)]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A queue for one test, which may break everything."""
    with live_queue(tmp_path, lease_s=2.0, grace_s=1.0) as live:
        yield live


def test_a_job_lands_every_row_once(served: Live) -> None:
    prompts = prompts_of(1_000)
    spec = served.submit(prompts)
    snapshot = served.wait_until_done(spec)
    assert snapshot.state is JobState.COMPLETED
    assert snapshot.counts.succeeded == 1_000 and snapshot.completion_tokens == 8_000
    served.check_rows(spec, prompts)
    results = ResultsDir.of(spec)
    assert results.success.exists() and results.manifest.exists()
    assert not results.temporary.exists()
    row = served.rows(spec)[0]
    assert row["worker"].startswith("worker-") and row["attempts"] == 1
    assert row["queued_at"] <= row["started_at"] <= row["finished_at"]
    queue = served.keys.queue("bulk", MODEL)
    wait_for(lambda: served.redis.llen(queue) == 0, "all messages to be taken")
    wait_for(lambda: served.redis.hlen("live.unacked") == 0, "all messages to be acknowledged")


def test_one_bad_row_fails_alone(served: Live) -> None:
    prompts = ["good", "bad [[fail]]", "x" * 200_000, "also good"]
    spec = served.submit(prompts)
    snapshot = served.wait_until_done(spec)
    assert snapshot.state is JobState.COMPLETED_WITH_ERRORS
    assert (snapshot.counts.succeeded, snapshot.counts.failed) == (2, 2)
    good, bad, long, also = served.rows(spec)
    assert good["output"] == expected_text("good", num_tokens=8) and also["status"] == "succeeded"
    assert (bad["status"], bad["output"], bad["error"]["code"]) == ("failed", None, "engine_error")
    assert long["error"]["code"] == "context_length_exceeded"
    assert snapshot.prompt_tokens < 200_000, "what was refused was not computed"


def test_every_sample_of_a_row_lands(served: Live) -> None:
    spec = served.submit(prompts_of(20), sampling={"n": 3, "max_tokens": 4})
    assert served.wait_until_done(spec).counts.succeeded == 20
    rows = served.rows(spec)
    assert [(row["row_index"], row["sample_index"]) for row in rows] == [
        (number, sample) for number in range(20) for sample in range(3)
    ]
    assert all(
        row["output"] == expected_text(row["text"], num_tokens=4, sample_index=row["sample_index"])
        for row in rows
    )


def test_cancel_stops_rows_that_would_go_on(served: Live) -> None:
    spec = served.submit(["[[long]]"] * 200)
    wait_for(lambda: served.snapshot(spec).counts.running, "the job to run")
    cancel(served.settings, served.table, spec.job_id)
    wait_for(
        lambda: [info for info in served.register.list() if info.running_rows == 0],
        "the engine to be free",
    )
    assert served.snapshot(spec).state is JobState.CANCELLED
    quick = served.submit(prompts_of(5))
    assert served.wait_until_done(quick).state is JobState.COMPLETED


def test_a_revoked_shard_runs_again_and_shows_no_prompt(served: Live) -> None:
    app = create_app(served.settings)
    spec = served.submit(["a secret [[long]]"])
    inspect = app.control.inspect(timeout=0.5)

    def running() -> dict[str, Any] | None:
        tasks = [task for tasks in (inspect.active() or {}).values() for task in tasks]
        return next((task for task in tasks if task["kwargs"]["job_id"] == spec.job_id), None)

    task = wait_for(running, "the shard's task")
    assert task["kwargs"] == {"job_id": spec.job_id, "index": 0, "rows": 1}
    app.control.revoke(task["id"], terminate=True)

    def running_again() -> bool:
        again = running()
        return again is not None and again["id"] != task["id"]

    wait_for(running_again, "the shard to run again")
    cancel(served.settings, served.table, spec.job_id)
    app.close()


def test_flower_sees_rows_and_speed_of_a_running_shard(served: Live) -> None:
    app = create_app(served.settings)
    told: list[str] = []
    spec = served.submit(["[[long]]", *prompts_of(3)])
    deadline_s = time.monotonic() + PATIENCE_S

    def on_event(event: dict[str, Any]) -> None:
        if event["type"] == "task-progress":
            told.append(event["result"])
        is_told = bool(told and re.fullmatch(r"3/4 rows · \d+ tok/s", told[-1]))
        receiver.should_stop = is_told or time.monotonic() > deadline_s  # workers tell all the time

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": on_event})
        receiver.capture(limit=None, timeout=PATIENCE_S, wakeup=False)
    assert re.fullmatch(r"3/4 rows · \d+ tok/s", told[-1])
    cancel(served.settings, served.table, spec.job_id)
    app.close()


def test_a_worker_and_its_engine_listen_nowhere(served: Live) -> None:
    (worker,) = served.workers
    for pid in (worker.pid, served.engine_pid(worker)):
        sockets = set[str]()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                sockets.add(str(path.readlink()))
        for table in ("tcp", "tcp6", "udp", "udp6"):
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            open_to_all = {
                f"socket:[{line.split()[9]}]"
                for line in lines
                if table.startswith("udp") or line.split()[3] == "0A"  # listening
            }
            assert not sockets & open_to_all, f"{pid} listens ({table})"


def test_events_tell_a_jobs_story(served: Live) -> None:
    spec = served.submit(prompts_of(100))
    served.wait_until_done(spec)
    stream = served.keys.events(spec.job_id)

    def told() -> list[str]:
        return [fields["kind"] for _, fields in served.redis.xrange(stream)]

    wait_for(lambda: "done" in told(), "the end")
    story = [kind for kind in told() if kind != "job.progress"]  # which a worker tells in its time
    assert story.count("shard.landed") == spec.num_shards
    assert story[-2:] == ["job.status", "done"]


@pytest.mark.parametrize("heir", ["beside", "after"])
def test_kill_9_of_a_worker_loses_no_row(live: Live, heir: str) -> None:
    prompts = prompts_of(112)
    victim = live.start_worker(SLOW)
    other = live.start_worker(SLOW) if heir == "beside" else None
    spec = live.submit(prompts, model=SLOW, shard_rows=16)
    engine_pid = live.engine_pid(victim)
    wait_for(lambda: live.snapshot(spec).shards_landed >= 2, "the first shards to land")
    victim.kill()
    killed_at = time.monotonic()
    landed = live.snapshot(spec).shards_landed
    if other is None:
        live.start_worker(SLOW)

    def goes_on() -> bool:
        job = live.snapshot(spec)
        return job.shards_landed > landed or job.state.is_final

    wait_for(goes_on, "a shard to land after the kill")
    print(f"\nfirst shard {time.monotonic() - killed_at:.1f} s after the kill ({heir})")
    assert live.wait_until_done(spec).counts.succeeded == 112
    print(f"job done {time.monotonic() - killed_at:.1f} s after the kill ({heir})")
    live.check_rows(spec, prompts)
    wait_for(lambda: not Path(f"/proc/{engine_pid}").exists(), "the orphaned engine to die")


def test_kill_9_of_the_engine_loses_no_row(live: Live) -> None:
    prompts = prompts_of(80)
    worker = live.start_worker(SLOW, lease_s=30.0)
    engine_pid = live.engine_pid(worker)
    spec = live.submit(prompts, model=SLOW, shard_rows=16)
    wait_for(lambda: live.snapshot(spec).shards_landed >= 1, "the first shard to land")
    os.kill(engine_pid, signal.SIGKILL)
    assert live.wait_until_done(spec).counts.succeeded == 80
    live.check_rows(spec, prompts)
    assert worker.poll() is None
    assert {row["attempts"] for row in live.rows(spec)} == {1, 2}


def test_a_row_that_kills_the_engine_is_found_and_fails_alone(live: Live) -> None:
    prompts = prompts_of(40)
    prompts[21] = "poison [[crash]]"
    live.start_worker(MODEL)
    spec = live.submit(prompts, shard_rows=8)
    snapshot = live.wait_until_done(spec)
    assert (snapshot.counts.succeeded, snapshot.counts.failed) == (39, 1)
    (failed,) = [row for row in live.rows(spec) if row["status"] == "failed"]
    assert (failed["row_index"], failed["error"]["code"]) == (21, "poisoned_row")
    assert "2 times while it ran this row alone: exit status 1" in failed["error"]["message"]
    assert len(live.rows(spec)) == 40
    names = {path.name for path in (live.settings.jobs_dir / spec.job_id).iterdir()}
    assert not names & {"suspects", "unlanded"}


def test_sigterm_hands_unfinished_shards_back(live: Live) -> None:
    worker = live.start_worker(SLOW, grace_s=0.2)
    spec = live.submit(["[[long]]"] * 40, model=SLOW, shard_rows=16)
    wait_for(lambda: live.snapshot(spec).counts.running, "the job to run")
    assert stop(worker) == 0  # its rows would go on for minutes
    snapshot = live.snapshot(spec)
    assert (snapshot.counts.running, snapshot.counts.pending) == (0, 40)
    assert not ResultsDir.of(spec).parts()
    assert live.redis.hlen("live.unacked") == 0
    assert live.register.list() == []


def test_sigterm_lets_rows_finish(live: Live) -> None:
    worker = live.start_worker(SLOW, grace_s=10.0)
    spec = live.submit(prompts_of(16), model=SLOW, shard_rows=16)
    unlanded = live.settings.jobs_dir / spec.job_id / "unlanded"

    def have_begun() -> bool:
        return live.snapshot(spec).counts.succeeded > 0 or any(unlanded.glob("*"))

    wait_for(have_begun, "its rows to begin")  # a shard that is only claimed would be handed back
    assert stop(worker) == 0
    assert live.snapshot(spec).counts.succeeded == 16


def test_a_wiped_redis_is_rebuilt_in_mid_job(live: Live) -> None:
    prompts = prompts_of(112)
    live.start_worker(SLOW, lease_s=30.0)
    spec = live.submit(prompts, model=SLOW, shard_rows=16)
    wait_for(lambda: live.snapshot(spec).shards_landed >= 2, "the first shards to land")
    live.redis.flushall()
    assert live.wait_until_done(spec).counts.succeeded == 112
    live.check_rows(spec, prompts)
    assert {row["attempts"] for row in live.rows(spec)} == {1}  # what ran went on


def test_rows_go_on_while_redis_is_away_and_are_committed_later(live: Live) -> None:
    """Longer than a lease. What waits is bounded by the shards that were open when it went."""
    prompts = prompts_of(160)
    live.start_worker(SLOW)
    spec = live.submit(prompts, model=SLOW, shard_rows=16)
    wait_for(lambda: live.snapshot(spec).shards_landed >= 1, "the first shard to land")
    assert live.server.pid is not None
    parts = ResultsDir.of(spec).parts
    num_landed = len(parts())
    os.kill(live.server.pid, signal.SIGKILL)
    gone_s = time.monotonic()
    wait_for(lambda: len(parts()) > num_landed, "shards to land without Redis")
    while time.monotonic() < gone_s + live.settings.lease_s + 0.5:
        time.sleep(0.1)
    assert len(parts()) < spec.num_shards  # it takes no more than it had
    live.server.start()
    assert live.wait_until_done(spec).counts.succeeded == 160
    live.check_rows(spec, prompts)


def test_cut_connections_double_no_row(live: Live) -> None:
    prompts = prompts_of(96)
    live.start_worker(SLOW)
    spec = live.submit(prompts, model=SLOW, shard_rows=16)

    def is_running() -> bool:
        job = live.snapshot(spec)
        return bool(job.counts.running) or job.state.is_final

    for _ in range(3):
        wait_for(is_running, "the job to run")
        live.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.5)
    assert live.wait_until_done(spec).counts.succeeded == 96
    live.check_rows(spec, prompts)


def test_two_more_keepers_do_no_harm(live: Live) -> None:
    prompts = prompts_of(300)
    live.start_worker()
    keepers = [Keeper(live.settings, owner=f"keeper-{number}") for number in range(2)]
    for keeper in keepers:
        keeper.start()
    spec = live.submit(prompts)
    assert live.wait_until_done(spec).counts.succeeded == 300
    live.check_rows(spec, prompts)
    for keeper in keepers:
        keeper.stop()


def test_a_worker_waits_for_redis_and_says_so(live: Live, tmp_path: Path) -> None:
    live.server.stop()
    said = tmp_path / "worker.log"
    with said.open("wb") as log:
        worker = live.start_worker(wait=False, log=log)
    clear = re.compile("Redis at .* does not answer .* is PENSTOCK_REDIS_URL right")
    wait_for(lambda: clear.search(said.read_text()), "a clear message")
    live.server.start()
    assert live.wait_until_serving(worker).model == MODEL


def test_a_model_that_cannot_be_served_ends_the_worker(
    live: Live, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = live.start_worker("fake:colour=3", wait=False)
    assert worker.wait(PATIENCE_S) == os.EX_UNAVAILABLE
    assert "unknown key 'colour'" in capfd.readouterr().err


def test_a_shard_that_landed_before_its_commit_is_only_committed(live: Live) -> None:
    prompts = prompts_of(32)
    worker = live.start_worker()
    spec = live.submit(prompts, shard_rows=16)
    live.wait_until_done(spec)
    assert stop(worker) == 0
    parts = {path: path.stat().st_mtime_ns for path in ResultsDir.of(spec).parts().values()}
    # The table forgets, and so does the end on disk: as if the worker had died before committing.
    live.redis.flushall()
    (live.settings.jobs_dir / spec.job_id / "final.json").unlink()
    live.table.create(spec)
    live.start_worker()
    assert live.wait_until_done(spec).counts.succeeded == 32
    assert parts == {path: path.stat().st_mtime_ns for path in ResultsDir.of(spec).parts().values()}


def test_a_full_disk_holds_a_job_up_and_room_lets_it_go_on(live: Live, small_disk: Path) -> None:
    live.start_worker()
    prompts = [f"{number} " + os.urandom(3_000).hex() for number in range(512)]
    spec = live.submit(prompts, out=str(small_disk / "out"))
    snapshot = wait_for(
        lambda: s if (s := live.snapshot(spec)).state is JobState.PAUSED else None,
        "the job to wait for room",
    )
    assert (snapshot.status_reason or "").startswith("storage_full: no space left for")
    assert snapshot.counts.failed == 0
    elsewhere = prompts_of(40)
    other = live.submit(elsewhere)
    assert live.wait_until_done(other).counts.succeeded == 40
    live.check_rows(other, elsewhere)
    assert live.snapshot(spec).state is JobState.PAUSED
    wait_for(lambda: not list(small_disk.rglob("*.tmp")), "no half of a part to be left")
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    final = live.wait_until_done(spec)
    assert (final.state, final.error) == (JobState.COMPLETED, None)
    live.check_rows(spec, prompts)
