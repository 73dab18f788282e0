"""A process takes as many open files as it is allowed to, whatever it was started with."""

import subprocess
import sys

_RAISE = """
import resource
from penstock.api.open_files import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))
raise_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_of_open_files_is_raised_to_what_is_allowed() -> None:
    told = subprocess.run([sys.executable, "-c", _RAISE], capture_output=True, check=True).stdout
    assert told.split() == [b"400", b"400"]
