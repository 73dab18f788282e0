"""Do the tests notice when a safeguard is taken out? One after the other, each in a copy.

    make mutations
    python -m benchmarks.mutations [refcount salt …]

For each safeguard of the files named `*_safeguards.py` here the tree is copied,
one line of the copy is broken, and the tests that should notice run there. Red is what is wanted.
The same tests must be green on an unbroken copy first: a test that always fails notices nothing.
"""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .asking_safeguards import ASKING_SAFEGUARDS
from .broken_copy import BrokenCopy
from .client_safeguards import CLIENT_SAFEGUARDS
from .device_safeguards import DEVICE_SAFEGUARDS
from .engine_safeguards import ENGINE_SAFEGUARDS
from .kernel_safeguards import KERNEL_SAFEGUARDS
from .operation_safeguards import OPERATION_SAFEGUARDS
from .queue_safeguards import QUEUE_SAFEGUARDS
from .request_safeguards import REQUEST_SAFEGUARDS
from .sampling_safeguards import SAMPLING_SAFEGUARDS
from .sandbox_safeguards import SANDBOX_SAFEGUARDS
from .tenant_safeguards import TENANT_SAFEGUARDS
from .workflow_safeguards import WORKFLOW_SAFEGUARDS

ALL = (
    *ENGINE_SAFEGUARDS,
    *SAMPLING_SAFEGUARDS,
    *KERNEL_SAFEGUARDS,
    *DEVICE_SAFEGUARDS,
    *QUEUE_SAFEGUARDS,
    *WORKFLOW_SAFEGUARDS,
    *ASKING_SAFEGUARDS,
    *SANDBOX_SAFEGUARDS,
    *TENANT_SAFEGUARDS,
    *REQUEST_SAFEGUARDS,
    *CLIENT_SAFEGUARDS,
    *OPERATION_SAFEGUARDS,
)


def main() -> None:
    """Try every safeguard and exit with 1 unless each was noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("safeguards", nargs="*", help="words of their names, or of their files")
    wanted: list[str] = parser.parse_args().safeguards
    chosen = [s for s in ALL if not wanted or any(w in f"{s.name} {s.file}" for w in wanted)]
    console = Console()
    table = Table("safeguard", "file", "without it", "seconds", title="safeguards taken out")
    num_missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = BrokenCopy(Path(scratch))
        green: dict[tuple[str, ...], bool] = {}
        for safeguard in chosen:
            begin_s = time.monotonic()
            verdict = "tests are red anyway"
            try:
                if safeguard.tests not in green:
                    green[safeguard.tests] = copy.is_green(safeguard.tests)
                if green[safeguard.tests]:
                    verdict = "noticed" if copy.notices(safeguard) else "NOT NOTICED"
            except (ValueError, RuntimeError) as error:
                verdict = str(error)
            took_s = time.monotonic() - begin_s
            num_missed += verdict != "noticed"
            table.add_row(safeguard.name, safeguard.file, verdict, f"{took_s:.0f}")
            console.print(f"{safeguard.name}: {verdict}", highlight=False, markup=False)
    console.print(table)
    console.print(f"{len(chosen) - num_missed} of {len(chosen)} noticed", highlight=False)
    raise SystemExit(int(num_missed > 0))


if __name__ == "__main__":
    main()
