"""What the settings say of a served model is what its engine is made with."""

import pytest

from penstock.engine.config import DEMO_MODEL
from penstock.jobs.engine_child import load_engine
from penstock.jobs.settings import Settings


def test_the_cache_may_be_in_eight_bits() -> None:
    settings = Settings(kv_cache_dtype="fp8_e4m3", device="cpu", kv_cache_gb=0.001)
    engine = load_engine(settings, DEMO_MODEL)
    bytes_per_block = 4 * 2 * 2 * 32 * 16  # layers, kinds, heads, head_dim, tokens: a byte each
    assert engine.runner.num_blocks == 2**30 // 1000 // bytes_per_block


def test_an_unknown_type_of_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="kv_cache_dtype must be one of auto, fp8_e4m3"):
        load_engine(Settings(kv_cache_dtype="fp4", device="cpu"), DEMO_MODEL)
