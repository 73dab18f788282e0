"""The client and the command line fit a laptop: they load nothing that serves or computes."""

import subprocess
import sys

import pytest

HEAVY = {
    "celery", "fastapi", "flower", "kombu", "msgspec", "numpy", "pandas", "pyarrow", "redis",
    "tokenizers", "torch", "transformers", "triton", "uvicorn",
}  # fmt: skip


@pytest.mark.parametrize(
    "module", ["penstock.api.client", "penstock.api.async_client", "penstock.api.cli"]
)
def test_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    assert HEAVY & set(result.stdout.split()) == set()
