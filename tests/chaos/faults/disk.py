"""Harm to the disk that results land on: it fills up, and later there is room again."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from ..ledger import Order
from ..scene import Fault, Scene
from ..stack import TOKENS

_SMALL_KB = 192  # room for some parts of the job, not for all
_ENOUGH_KB = 262_144
_FULL_S = 3.0


def fill_disk(scene: Scene) -> None:
    """F22: a second job's results meet a full disk; it waits for room, and the first goes on."""
    mount = scene.stack.directory / f"small-{scene.seed}"
    mount.mkdir()
    _mount(mount, f"size={_SMALL_KB}k")
    try:
        order = Order(scene.main.order.rows, scene.seed + 1, TOKENS)
        job = scene.submit(order, output=mount)
        scene.wait_for(lambda: _is_full(mount), "the disk to be full")
        scene.strike()
        time.sleep(_FULL_S)
        if job.has_ended:
            scene.blame(f"F22 on a full disk the job is {job.last and job.last.status}")
        scene.notes["rows_before_room"] = job.done
        _mount(mount, f"remount,size={_ENOUGH_KB}k")
        scene.wait_for(lambda: job.has_ended and scene.main.has_ended, "the end of both jobs")
        # A second attempt at a part may still be finding out that the first has landed.
        scene.wait_for(lambda: not any(mount.rglob("*.tmp")), "what is half written to go")
        shutil.copytree(mount / job.job_id, scene.stack.directory / "landed" / job.job_id)
        job.home = scene.stack.directory / "landed" / job.job_id
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def _is_full(mount: Path) -> bool:
    room = os.statvfs(mount)
    return room.f_bavail * room.f_frsize < _SMALL_KB * 1024 // 4


def _mount(mount: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)], check=True)


def _may_not_mount() -> str | None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "only root may mount the small file system it needs"
    probe = Path("/tmp") / f"chaos-mount-{os.getpid()}"
    probe.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(probe)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return "this machine lets nobody mount the small file system it needs"
        subprocess.run(["umount", "--lazy", str(probe)], check=True)
        return None
    finally:
        probe.rmdir()


FAULTS = (
    Fault(number="F22", title="disk of results full", inject=fill_disk, why_not=_may_not_mount),
)
