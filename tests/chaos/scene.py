"""One run of one fault: the jobs on the stack, the watcher that polls them, and what came of it.

A fault is a function that is given the scene, waits for its moment and does its harm; meanwhile
and afterwards every job in the scene is watched ten times a second until it has ended.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from .ledger import Ledger, Order, Sight
from .stack import PATIENCE_S, TOKENS, NeverHappened, Stack, StackOptions
from .work import Work

_LOOK_S = 0.1
_ENDS_WITHIN_S = 600.0  # of any job, whatever happened to it: beyond that it is lost
_ANSWER_LIMIT_S = 3.0
_WINDOW_S = 2.0  # over which a speed is taken
_RECOVERED = 0.95  # of the speed before


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault: its number in the reliability plan, what it does, and what it needs."""

    number: str
    title: str
    inject: "Callable[[Scene], None]"
    options: StackOptions = field(default_factory=StackOptions)
    num_poisoned: int = 0
    may_forget: bool = False
    why_not: Callable[[], str | None] = lambda: None  # the reason if it cannot be done here


@dataclass(frozen=True, slots=True)
class Record:
    """What one run came to; a time is None where it cannot be told, as at the end of a job."""

    fault: str
    title: str
    seed: int
    rows: int
    acked: int
    terminal: int
    lost: int
    duplicated: int
    innocent: int
    wrong: int
    redone: int
    recomputed_tokens: int
    engine_starts: int
    unanswered_polls: int
    t_first_s: float | None  # from the harm to the next row told as ended
    t_held_s: float | None  # until all that had been in flight stood in files
    t95_s: float | None
    took_s: float
    notes: dict[str, Any]
    violations: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether every rule was kept."""
        found = (self.lost, self.duplicated, self.innocent, self.wrong, self.redone)
        return not any(found) and not self.violations and self.acked == self.terminal


class Scene:
    """What a fault may touch: the stack, the jobs, its own luck.

    Attributes:
        main: the job that is hit.
        notes: figures that the fault wants written down.
    """

    def __init__(self, stack: Stack, fault: Fault, rows: int, seed: int) -> None:
        self.stack = stack
        self.fault = fault
        self.seed = seed
        self.random = random.Random(f"{fault.number}/{fault.title}/{seed}")
        self.notes: dict[str, Any] = {}
        self._rows = rows
        self._ledgers: list[Ledger] = []
        self._violations: list[str] = []
        self._struck_at_s: float | None = None
        self._struck_at_ns: int | None = None
        self._struck_at_row = 0
        self._engines: set[int] = set(stack.engines())
        self._num_engines = len(self._engines)
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._journal_from = stack.journal.stat().st_size if stack.journal.exists() else 0
        poisoned = self.random.sample(range(rows), fault.num_poisoned)
        self.main = self.submit(Order(rows, seed, TOKENS, frozenset(poisoned)))
        self._watcher.start()

    # What a fault asks.

    def submit(self, order: Order, **fields: Any) -> Ledger:
        """Submit a job over HTTP; from the 202 on it is watched, and its rows count as accepted."""
        job = post_job(self.stack.url, self.stack.model, order, **fields)
        home = self.stack.settings.results_dir / job["id"]
        if "output" in fields:
            home = fields["output"] / job["id"]
        ledger = Ledger(job["id"], order, home, self.fault.may_forget)
        self._ledgers.append(ledger)
        return ledger

    def until(self, share: float) -> None:
        """Wait until so much of the main job has ended, or it all has."""
        wanted = share * self._rows
        self.wait_for(lambda: self.main.done >= wanted or self.main.has_ended, f"{share:.0%}")

    def strike(self) -> None:
        """Note that the harm begins now; the clock of the recovery runs."""
        self._struck_at_s, self._struck_at_ns = time.monotonic(), time.time_ns()
        self._struck_at_row = self.main.done

    def wait_for(
        self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S
    ) -> None:
        """Wait for something that must happen."""
        deadline_s = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise NeverHappened(f"{self.fault.number}: waited in vain for {what}")
            time.sleep(0.02)

    def blame(self, violation: str) -> None:
        """Note a rule that the fault itself has seen broken."""
        self._violations.append(violation)

    # What the runner asks.

    def finish(self) -> Record:
        """See all jobs to their end and count."""
        try:
            self.wait_for(
                lambda: all(each.has_ended for each in self._ledgers),
                "the jobs' end",
                _ENDS_WITHIN_S,
            )
        except NeverHappened as error:
            self.blame(f"I5 {error}: {[(each.job_id, each.last) for each in self._ledgers]}")
        finally:
            self.close()
        verdicts = [ledger.verdict() for ledger in self._ledgers]
        homes = {ledger.job_id: ledger.home for ledger in self._ledgers}
        work = Work(self.stack.journal, self._journal_from, homes)
        first_s, t95_s = self._recovery()
        held_s = None if self._struck_at_ns is None else work.held_s(self._struck_at_ns)
        ended_s = max(each.last.at_s for each in self._ledgers if each.last)
        violations = [each for verdict in verdicts for each in verdict.violations]
        return Record(
            fault=self.fault.number,
            title=self.fault.title,
            seed=self.seed,
            rows=sum(ledger.order.rows for ledger in self._ledgers),
            acked=sum(verdict.acked for verdict in verdicts),
            terminal=sum(verdict.terminal for verdict in verdicts),
            lost=sum(verdict.lost for verdict in verdicts),
            duplicated=sum(verdict.duplicated for verdict in verdicts),
            innocent=sum(verdict.innocent for verdict in verdicts),
            wrong=sum(verdict.wrong for verdict in verdicts),
            redone=work.num_late(),
            recomputed_tokens=work.num_again() * TOKENS,
            engine_starts=len(self._engines) - self._num_engines,
            unanswered_polls=sum(ledger.num_unanswered for ledger in self._ledgers),
            t_first_s=first_s,
            t_held_s=None if held_s is None else round(held_s, 1),
            t95_s=t95_s,
            took_s=round(ended_s - self.main.sights[0].at_s, 1),
            notes=self.notes,
            violations=[*violations, *self._violations],
        )

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        with httpx2.Client(base_url=self.stack.url, timeout=_ANSWER_LIMIT_S) as client:
            while not self._over.wait(_LOOK_S):
                self._engines.update(self.stack.engines())
                for ledger in self._ledgers:
                    if not ledger.has_ended:
                        _look(client, ledger)

    def _recovery(self) -> tuple[float | None, float | None]:
        """Say how long after the harm rows ended again, and their old speed was reached."""
        struck_s, sights = self._struck_at_s, self.main.sights
        if struck_s is None:
            return None, None
        before = [sight for sight in sights if sight.at_s <= struck_s]
        after = [sight for sight in sights if sight.at_s > struck_s]
        first_s = next((each.at_s for each in after if each.done > self._struck_at_row), None)
        return _since(struck_s, first_s), _since(struck_s, _regained(after, _speed(before)))


def _since(start_s: float, at_s: float | None) -> float | None:
    return None if at_s is None else round(at_s - start_s, 1)


def _regained(sights: Sequence[Sight], speed: float) -> float | None:
    """Find when a window begins in which rows end as fast as before; None if none does."""
    for place, sight in enumerate(sights):
        window = [each for each in sights[place:] if each.at_s <= sight.at_s + _WINDOW_S]
        is_whole = window[-1].at_s - sight.at_s >= 0.9 * _WINDOW_S
        if is_whole and speed and _speed(window) >= _RECOVERED * speed:
            return sight.at_s
    return None


def _speed(sights: Sequence[Sight]) -> float:
    moving = [sight for sight in sights if sight.status == "running"]
    if len(moving) < 2:
        return 0.0
    return (moving[-1].done - moving[0].done) / (moving[-1].at_s - moving[0].at_s)


def _look(client: httpx2.Client, ledger: Ledger) -> None:
    try:
        answer = client.get(f"/v1/jobs/{ledger.job_id}")
    except httpx2.HTTPError:
        ledger.miss(None)
        return
    if answer.status_code == 200:
        ledger.look(answer.json())
    else:
        ledger.miss(answer.status_code)


def post_job(
    url: str, model: str, order: Order, *, timeout_s: float = 60.0, **fields: Any
) -> dict[str, Any]:
    """Hand a job in and return it as it was accepted.

    Raises:
        httpx2.HTTPError: there was no answer, or it is no 2xx.
    """
    body = {"model": model, "prompt": "{{ row.text }}", "sampling": {"max_tokens": order.tokens}}
    key = fields.pop("key", None)
    if "output" in fields:
        fields["output"] = {"path": str(fields["output"])}
    lines = "".join(json.dumps({"text": order.prompt(n)}) + "\n" for n in range(order.rows))
    answer = httpx2.post(
        f"{url}/v1/jobs",
        files={
            "request": (None, json.dumps({**body, **fields}).encode(), "application/json"),
            "file": ("rows.jsonl", lines.encode()),
        },
        headers={"idempotency-key": key} if key else {},
        timeout=timeout_s,
    )
    answer.raise_for_status()
    return answer.json()


def play(stack: Stack, fault: Fault, rows: int, seed: int) -> Record:
    """Run one fault on a stack that serves, and leave it serving."""
    scene = Scene(stack, fault, rows, seed)
    try:
        for step in (lambda: fault.inject(scene), stack.mend):
            try:
                step()
            except NeverHappened as error:
                scene.blame(f"I5 {error}")
        return scene.finish()
    finally:
        scene.close()
