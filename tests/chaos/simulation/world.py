"""One thread that plays many: simulated processes, their threads, and a clock that only they move.

A step of a thread is a plain call into the real code. Wherever that code reaches the store or the
disk it passes through here (`reach`), and may be held up there while the others go on, or die
there. Held up means: the others' steps are run from within. So everything is determined by a seed,
and a thread that sleeps costs nothing.

    run -> step of A -> store call of A -> pause -> step of B ... -> back in A, half a minute later
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

EPOCH_US = 1_700_000_000_000_000


class Crashed(BaseException):
    """The process of the code that runs now is dead: nothing it does has an effect any more."""


class Violation(BaseException):
    """A promise was broken. Not an Exception, so that no boundary of the product's hides it."""


@dataclass(eq=False)
class Process:
    """Something that dies as a whole."""

    name: str
    clock_skew_s: float = 0.0
    is_dead: bool = False
    stopped_until_us: int = 0  # as by SIGSTOP
    on_death: Callable[[], None] | None = None


@dataclass(eq=False)
class Thread:
    """Steps of one process that never overlap. `step` returns the pause until the next one.

    For the time of a step it may act in another process than its own: a client's call does.
    """

    home: Process
    name: str
    step: Callable[[], float]  # seconds
    due_us: int
    is_busy: bool = False
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = self.home

    @property
    def title(self) -> str:
        return f"{self.process.name}/{self.name}"


@dataclass
class World:
    """The clock, the dice and who is alive."""

    random: Random
    now_us: int = EPOCH_US
    threads: list[Thread] = field(default_factory=list)
    current: Thread | None = None
    events: list[tuple[int, str, str]] = field(default_factory=list)  # a trace: when, who, what
    after_step: Callable[[], None] | None = None
    _depth: int = 0
    outside: Process = field(default_factory=lambda: Process("world"))

    def spawn(
        self, process: Process, name: str, step: Callable[[], float], delay_s: float = 0.0
    ) -> Thread:
        thread = Thread(process, name, step, self.now_us + int(delay_s * 1e6))
        self.threads.append(thread)
        return thread

    def at(self, delay_s: float, name: str, do: Callable[[], None]) -> None:
        """Let something happen once, later, to the world as such."""

        def step() -> float:
            self.threads.remove(thread)
            self.note(name)
            do()
            return 0.0

        thread = self.spawn(self.outside, name, step, delay_s)

    def run(self, until_us: int, is_over: Callable[[], bool] | None = None) -> bool:
        """Take steps until then; returns whether it was over before."""
        while is_over is None or not is_over():
            thread = self._next(until_us)
            if thread is None:
                self.now_us = max(self.now_us, until_us)
                return False
            self._take(thread)
        return True

    def pause(self, duration_s: float) -> None:
        """Let the current thread sleep, and the others go on."""
        thread = self.current
        if thread is None:
            return
        thread.is_busy = True
        self._depth += 1
        self.run(self.now_us + int(duration_s * 1e6))
        self._depth -= 1
        while thread.process.stopped_until_us > self.now_us and not thread.process.is_dead:
            self.run(thread.process.stopped_until_us)
        self.current = thread
        thread.is_busy = False
        self.reach()

    @property
    def may_pause(self) -> bool:
        """Whether a fault may hold a thread up: every pause nests, so there is a limit."""
        return self._depth < 3

    def reach(self) -> None:
        """Be asked by everything that has an effect: may the current thread still have one?"""
        if self.current is not None and self.current.process.is_dead:
            raise Crashed

    def crash(self, process: Process) -> None:
        """End a process between two of its instructions."""
        if process.is_dead:
            return
        process.is_dead = True
        self.note("dies", process.name)
        self.threads = [thread for thread in self.threads if thread.home is not process]
        if process.on_death is not None:
            process.on_death()

    def stop(self, process: Process, duration_s: float) -> None:
        """Stop a process for a while; what it is in the middle of, it goes on with later."""
        self.note(f"stands still for {duration_s:.1f} s", process.name)
        process.stopped_until_us = self.now_us + int(duration_s * 1e6)

    def note(self, what: str, who: str | None = None) -> None:
        if who is None:
            who = self.current.title if self.current else "-"
        self.events.append((self.now_us, who, what))

    def _next(self, until_us: int) -> Thread | None:
        chosen, chosen_us = None, until_us
        for thread in self.threads:
            if thread.is_busy:
                continue
            due_us = thread.due_us
            if due_us < thread.process.stopped_until_us:
                due_us = thread.process.stopped_until_us
            if due_us < chosen_us:
                chosen, chosen_us = thread, due_us
        if chosen is not None and chosen_us > self.now_us:
            self.now_us = chosen_us
        return chosen

    def _take(self, thread: Thread) -> None:
        outer, self.current = self.current, thread
        thread.is_busy = True
        delay_s = 0.0
        try:
            delay_s = thread.step()
        except Crashed:
            pass  # it was the thread's process that died, and only that
        finally:
            self.current = outer
            thread.is_busy = False
            thread.process = thread.home
        # No two machines keep the same pace.
        thread.due_us = self.now_us + int(delay_s * 1e6 * self.random.uniform(0.8, 1.5)) + 50
        if self.after_step is not None:
            self.after_step()


class SimulatedTime:
    """Stands in for the module `time`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return (self._world.now_us - EPOCH_US) / 1e6 + 1_000.0

    def time(self) -> float:
        thread = self._world.current
        return self._world.now_us / 1e6 + (thread.process.clock_skew_s if thread else 0.0)

    def time_ns(self) -> int:
        return int(self.time() * 1e6) * 1_000

    def sleep(self, duration_s: float) -> None:
        self._world.pause(max(duration_s, 0.001))
