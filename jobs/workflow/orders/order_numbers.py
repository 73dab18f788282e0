"""The numbers under which the orders of a run are placed. Knows names of directories only."""

from contextlib import suppress
from pathlib import Path

from ...job_dir import JobDir
from ..runs.run_results import RunResults
from ..runs.run_spec import RunSpec
from .order_names import depth_of, number_of, order_name

MAX_ORDERS = 1_000_000  # of a step


class OrderNumbers:
    """Counts the orders of one run, step by step; looks once which there are."""

    def __init__(self, jobs_dir: Path, run: RunSpec) -> None:
        self._jobs_dir = jobs_dir
        self._run_id = run.run_id
        self._asks = RunResults.of(run).asks
        self._next: dict[int, int] | None = None  # place of a step -> number of its next order

    def create(self, place: int) -> JobDir:
        """Make a directory under a number that no other order of the step has, or ever had.

        Raises:
            StorageFull: there is no room.
        """
        if self._next is None:
            self._next = self._found()
        for number in range(self._next.get(place, 0), MAX_ORDERS):
            self._next[place] = number + 1
            job_dir = JobDir(self._jobs_dir, order_name(self._run_id, place, number))
            with suppress(FileExistsError):  # another leader's; what is asked twice costs only
                job_dir.create()
                return job_dir
        raise OverflowError(f"{self._run_id} has {MAX_ORDERS} orders of one step")

    def _found(self) -> dict[int, int]:
        """Find what has been taken, also by orders whose jobs are gone and whose rows are not."""
        names = {path.name for path in self._jobs_dir.glob(f"{self._run_id}-*")}
        if self._asks.is_dir():
            names |= {path.name for path in self._asks.iterdir()}
        following: dict[int, int] = {}
        for name in names:
            number = number_of(name)
            if number is not None:
                place = depth_of(name)
                following[place] = max(following.get(place, 0), number + 1)
        return following
