"""Jobs that are steered while they run: paused and resumed over and over, or out of time."""

import time

import httpx2

from ..ledger import Order
from ..scene import Fault, Scene, post_job
from ..stack import TOKENS

_NUM_PAUSES = 10
_DEADLINE_S = 3.0


def pause_and_resume(scene: Scene) -> None:
    """F32: the job is paused and resumed again and again; in the first pause a worker is killed."""
    address = f"{scene.stack.url}/v1/jobs/{scene.main.job_id}"
    scene.until(0.1)
    scene.strike()
    num_killed = 0
    for number in range(_NUM_PAUSES):
        if not _is_steered(f"{address}/pause"):
            break
        scene.notes["pauses"] = number + 1
        if not num_killed:
            worker = scene.random.choice(scene.stack.workers)
            worker.kill()
            worker.start()
            num_killed += 1
        time.sleep(scene.random.uniform(0.0, 0.5))
        if not _is_steered(f"{address}/resume"):
            break
        time.sleep(scene.random.uniform(0.0, 0.3))
    if not num_killed:
        scene.blame("F32 the job had ended before a worker was killed")


def run_out_of_time(scene: Scene) -> None:
    """F42: another job's deadline passes in its middle; what has landed by then is kept."""
    order = Order(scene.main.order.rows, scene.seed + 1, TOKENS)
    scene.strike()
    job = post_job(scene.stack.url, scene.stack.model, order, deadline=_DEADLINE_S)
    address = f"{scene.stack.url}/v1/jobs/{job['id']}"

    def look() -> dict:
        return httpx2.get(address, timeout=60).json()

    scene.wait_for(lambda: look()["finished_at"] is not None, "the job's time to be up")
    rows = httpx2.get(f"{address}/results", timeout=60).text.splitlines()
    ended = look()  # after the rows: what was held when the time was up may land, and count, since
    counts = ended["counts"]
    scene.notes["landed_in_time"] = len(rows)
    if ended["status"] != "expired" or not counts["not_run"]:
        scene.blame(f"F42 out of time, the job is {ended['status']}: {counts}")
    if counts["succeeded"] + counts["not_run"] != order.rows or len(rows) > counts["succeeded"]:
        scene.blame(f"F42 {len(rows)} rows can be read, {counts}")


def _is_steered(address: str) -> bool:
    """Steer a job; false if it has ended meanwhile."""
    answer = httpx2.post(address, timeout=60)
    if answer.status_code == httpx2.codes.CONFLICT:
        return False
    answer.raise_for_status()
    return True


FAULTS = (
    Fault(number="F32", title="paused and resumed ten times", inject=pause_and_resume),
    Fault(number="F42", title="a deadline in mid-job", inject=run_out_of_time),
)
