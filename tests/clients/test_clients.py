"""LangChain, LiteLLM and Instructor against a real server with the demo model.

They want other versions of `openai` and `huggingface_hub` than we do, so they live in an
environment of their own, `.venv/clients`, which `make test` builds. Each `with_*.py` is run there
by a pytest of its own, which finds the server as these clients' manuals have it: by environment.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, running_stack

HERE = Path(__file__).parent
CLIENTS = Path(sys.prefix) / "clients" / "bin" / "python"
OPTIONS = ("-c", "foreign.ini", "--rootdir", HERE, "--noconftest")
KEY = "sk-clients-0123456789abcdef"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not CLIENTS.exists():
        pytest.fail(f"{CLIENTS} is missing: `make test` builds it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENSTOCK_API_KEY", KEY)
        with running_stack(tmp_path_factory.mktemp("stack"), "--no-flower") as running:
            yield running


@pytest.mark.parametrize("client", ["langchain", "litellm", "instructor"])
def test_a_client_works_unchanged(stack: Stack, tmp_path: Path, client: str) -> None:
    done = subprocess.run(
        [CLIENTS, "-m", "pytest", *OPTIONS, f"with_{client}.py"],
        cwd=HERE,
        env={
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OPENAI_BASE_URL": f"{stack.url}/v1",
            "OPENAI_API_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches one as it is imported
            "LANGSMITH_TRACING": "false",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
