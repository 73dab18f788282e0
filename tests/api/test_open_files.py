"""A process takes as many open files as it is allowed to, whatever it was started with."""

import resource
import subprocess
import sys

_RAISE = """
import resource
from penstock.api.open_files import OpenFiles, raise_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
before = OpenFiles.of_process()
raise_limit()
print(before.connections, OpenFiles.of_process().connections)
"""


def test_the_limit_of_open_files_is_raised_to_what_is_allowed() -> None:
    told = subprocess.run([sys.executable, "-c", _RAISE], capture_output=True, check=True).stdout
    before, after = map(int, told.split())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert before < hard // 2
    assert hard // 2 < after < hard
