"""What `docs/operations.md` names is there: settings, metrics, codes of errors, states."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from penstock.api.hardware import known_gpus
from penstock.api.planner_models import find_shape
from penstock.jobs.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
VARIABLES = {item.metadata["env"] for item in fields(Settings)}


def sources(*folders: str) -> str:
    files = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"PENSTOCK_[A-Z0-9_]+", PAGE))))
def test_a_variable_is_a_setting(name: str) -> None:
    assert name in VARIABLES


def test_metrics_are_told() -> None:
    told = sources("api")
    names = set(re.findall(r"\bpenstock_[a-z_]+[a-z]", PAGE))
    assert len(names) > 12
    for name in names:
        assert name.removeprefix("penstock_").removesuffix("_total") in told, name


def test_codes_and_states_are_told() -> None:
    told = sources("api", "jobs", "engine")
    words = {"worker_lost", "no_worker", "queue_unavailable", "storage_unavailable"}
    words |= {"storage_full", "error_rate", "context_length_exceeded", "poisoned_row"}
    for word in words:
        assert f"`{word}`" in PAGE
        assert word in told, f"nothing says {word!r} any more"


def test_models_and_gpus_of_commands_are_known() -> None:
    models = set(re.findall(r"plan --model (\S+)", PAGE))
    assert len(models) >= 4
    for model in models:
        assert find_shape(model).num_parameters
    gpus = set(re.findall(r"--gpu (\S+)", PAGE)) - {"cpu", "list"}
    assert gpus <= {gpu.name for gpu in known_gpus()} | {"H100"}


def test_figures_that_others_hold_are_these() -> None:
    """Numbers of the page that stand in the code under a name."""
    from penstock.api.shared_looks import EVERY_S, MAX_BOARDS, MAX_OWN_BOARDS
    from penstock.api.stream_slots import PATIENCE_S
    from penstock.engine.chat_template import MAX_CPU_S, MAX_MEMORY_BYTES
    from penstock.jobs.chat_usage import FLUSH_S
    from penstock.jobs.redis_server import OLDEST_MAJOR_VERSION
    from penstock.jobs.webhook_outbox import RETRY_AFTER_S
    from penstock.jobs.workers import PROOF_MAX_AGE_MS

    default = Settings()
    assert (default.lease_s, default.grace_s, default.max_num_seqs) == (4.0, 20.0, None)
    assert (MAX_CPU_S, MAX_MEMORY_BYTES) == (5.0, 2**30)
    assert OLDEST_MAJOR_VERSION == 7
    assert FLUSH_S == 10
    assert (EVERY_S, PATIENCE_S, MAX_OWN_BOARDS, MAX_BOARDS) == (1.5, 10.0, 32, 1024)
    assert PROOF_MAX_AGE_MS == 30_000
    assert 1 + len(RETRY_AFTER_S) == 7
    assert 1.4 < sum(RETRY_AFTER_S) / 86_400 < 1.6
