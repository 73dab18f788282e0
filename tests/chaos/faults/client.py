"""What clients do that others must not feel: leave in the middle, cancel at any moment."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2

from penstock.jobs.model import new_job_id

from ..ledger import NOT_ADDED, Order
from ..scene import Fault, Scene, post_job
from ..stack import TOKENS

_NUM_STREAMS = 20
_FRAMES = 5  # that a client reads before it leaves
_NUM_CANCELS = 20
_SMALL_ROWS = 200


def leave_streams(scene: Scene) -> None:
    """F31: clients of endless answers hang up after some words; their rows must end with them."""
    scene.until(0.1)
    scene.strike()
    with ThreadPoolExecutor(_NUM_STREAMS) as clients:
        for _ in clients.map(lambda _: _read_a_little(scene), range(_NUM_STREAMS)):
            pass
    left_s = time.monotonic()

    def is_quiet() -> bool:
        """Nothing runs beside the job; when that has ended, nothing at all."""
        answer = httpx2.get(f"{scene.stack.url}/v1/workers", timeout=60).json()
        return scene.main.has_ended and not any(
            worker["running_rows"] + worker["waiting_rows"] for worker in answer["data"]
        )

    scene.wait_for(is_quiet, "the left answers to end")
    scene.notes["quiet_after_s"] = round(time.monotonic() - left_s, 1)


def cancel_races(scene: Scene) -> None:
    """F32: small jobs are cancelled at any moment, some twice, some as they complete."""
    scene.until(0.1)
    scene.strike()
    with ThreadPoolExecutor(4) as clients:
        seeds = [scene.random.randrange(1 << 30) for _ in range(_NUM_CANCELS)]
        ends = list(clients.map(lambda seed: _cancel_one(scene, seed), seeds))
    scene.notes["ended_as"] = {end: ends.count(end) for end in sorted(set(ends))}


def _read_a_little(scene: Scene) -> None:
    body = {
        "model": scene.stack.model,
        "messages": [{"role": "user", "content": f"[[long]] {new_job_id()}"}],
        "stream": True,
        "max_tokens": 50_000,
    }
    url = f"{scene.stack.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, timeout=60) as answer:
        answer.raise_for_status()
        for number, _ in enumerate(answer.iter_lines()):
            if number >= _FRAMES:
                return


def _cancel_one(scene: Scene, seed: int) -> str:
    """Cancel one job after a while that luck chooses; its counts must add up ever after."""
    url = scene.stack.url
    job = post_job(url, scene.stack.model, Order(_SMALL_ROWS, seed, TOKENS))
    address = f"{url}/v1/jobs/{job['id']}"
    time.sleep(seed % 1000 / 1000 * 2.0)
    for _ in range(1 + seed % 2):
        httpx2.post(f"{address}/cancel", timeout=60).raise_for_status()
    after = httpx2.get(address, timeout=60).json()
    if after["status"] not in ("cancelled", "completed", "landing"):
        scene.blame(f"F32 a cancelled job is {after['status']}")
    scene.wait_for(
        lambda: httpx2.get(address, timeout=60).json()["status"] in ("cancelled", "completed"),
        "the cancelled job's end",
    )
    rows = httpx2.get(f"{address}/results", params={"limit": 1000}, timeout=60).text.splitlines()
    # Asked after the rows: what was held when the job was cancelled may land, and count, since.
    ended = httpx2.get(address, timeout=60).json()
    counts = ended["counts"]
    total = sum(count for name, count in counts.items() if name not in NOT_ADDED)
    if total != _SMALL_ROWS or counts["failed"] or counts["running"]:
        scene.blame(f"F32 counts of a cancelled job do not add up: {counts}")
    if len(rows) > counts["succeeded"]:
        scene.blame(f"F32 {len(rows)} rows can be read, {counts['succeeded']} are told")
    if ended["status"] == "completed" and counts["succeeded"] != _SMALL_ROWS:
        scene.blame(f"F32 completed with {counts}")
    return ended["status"]


FAULTS = (
    Fault(number="F31", title="20 clients leave in mid-answer", inject=leave_streams),
    Fault(number="F32", title="20 jobs cancelled at any moment", inject=cancel_races),
)
