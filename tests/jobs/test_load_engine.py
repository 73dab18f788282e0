"""What the settings say of a served model is what its engine is made with."""

import shutil
from pathlib import Path

import pytest
import torch

from penstock.engine.model_place import DEMO_MODEL, resolve_model
from penstock.engine.revision import served_revision
from penstock.jobs.engine_child import bulk_slots, load_engine, revision_of
from penstock.jobs.settings import Settings


def test_the_cache_may_be_in_eight_bits() -> None:
    settings = Settings(kv_cache_dtype="fp8_e4m3", device="cpu", kv_cache_gb=0.001)
    engine = load_engine(settings, DEMO_MODEL)
    bytes_per_block = 4 * 2 * 2 * 32 * 16  # layers, kinds, heads, head_dim, tokens: a byte each
    assert engine.runner.num_blocks == 2**30 // 1000 // bytes_per_block


def test_an_unknown_type_of_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="kv_cache_dtype must be one of auto, fp8_e4m3"):
        load_engine(Settings(kv_cache_dtype="fp4", device="cpu"), DEMO_MODEL)


def test_the_revision_says_what_the_model_is_run_in(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(resolve_model(DEMO_MODEL), model)
    engine = load_engine(Settings(device="cpu", quantization="int8"), str(model))
    assert revision_of(engine) == served_revision(model, torch.float32, quantization="int8")
    (model / "model.safetensors").unlink()
    assert revision_of(engine) == ""


def test_a_gpu_runs_more_rows_together_unless_told() -> None:
    def slots(device: str, told: int | None = None) -> int:
        return bulk_slots(Settings(device=device, max_num_seqs=told), DEMO_MODEL)

    assert (slots("cuda"), slots("cpu")) == (256, 64)
    assert (slots("cuda", 7), slots("cpu", 7)) == (7, 7)
