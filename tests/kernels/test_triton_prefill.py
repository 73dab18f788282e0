"""Attention of rows with many tokens agrees with its twin, for any mix of lengths."""

import pytest
import torch

from penstock.kernels import reference
from penstock.kernels.triton_prefill import prefill_attention
from tests.kernels.cases import assert_agree, attention_case
from tests.kernels.triton_cases import DTYPES, in_eight_bits

pytestmark = pytest.mark.usefixtures("poisoned")

RAGGED = [(1, 1), (5, 5), (1, 130), (40, 40), (3, 70), (70, 200), (16, 16), (64, 64), (2, 65)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "block"),
    [(1, 1, 16, 16), (14, 2, 64, 16), (6, 2, 80, 32), (4, 1, 256, 16)],
)
def test_prefill(dtype: torch.dtype, heads: int, kv_heads: int, dim: int, block: int) -> None:
    case = attention_case(RAGGED, heads, kv_heads, dim, dtype, block)
    assert_agree(prefill_attention(**case), reference.paged_attention(**case))


@pytest.mark.parametrize("window", [1, 20, 64, 150])
def test_window(window: int) -> None:
    rows = [(1, 1), (30, 30), (100, 330), (1, 330), (70, 70)]
    case = attention_case(rows, 4, 2, 32, DTYPES[0])
    found = prefill_attention(**case, sliding_window=window)
    assert_agree(found, reference.paged_attention(**case, sliding_window=window))


def test_softcap() -> None:
    case = attention_case([(5, 90), (30, 30)], 4, 2, 32, DTYPES[0])
    case["query"] *= 9
    found = prefill_attention(**case, softcap=3.0)
    assert_agree(found, reference.paged_attention(**case, softcap=3.0))


def test_rows_of_one_token_can_be_left_out() -> None:
    case = attention_case([(3, 9), (1, 30), (2, 70), (1, 4)], 4, 2, 16, DTYPES[0])
    found = prefill_attention(**case, skip_decode=True)
    expected = reference.paged_attention(**case)
    assert_agree(found[[0, 1, 2, 4, 5]], expected[[0, 1, 2, 4, 5]])
    assert found[[3, 6]].isnan().all()


def test_a_nan_in_a_key_is_seen_by_later_tokens_only() -> None:
    case = attention_case([(90, 90)], 2, 1, 16, DTYPES[0])
    block = int(case["block_tables"][0, 70 // 16])
    case["cache"].key[block, 70 % 16, 0, 3] = torch.nan
    found = prefill_attention(**case).isnan().any(-1).any(-1)
    assert found.tolist() == [place >= 70 for place in range(90)]


def test_half_the_cache_in_eight_bits() -> None:
    case = attention_case([(40, 40), (5, 90)], 4, 2, 16, DTYPES[0])
    wide = case["cache"]
    narrow = in_eight_bits(wide, 0.5, 0.25)
    case["cache"] = narrow
    found = prefill_attention(**case)
    assert_agree(found, reference.paged_attention(**case))
    case["cache"] = reference.LayerCache(narrow.key.float() * 0.5, narrow.value.float() * 0.25)
    assert_agree(found, reference.paged_attention(**case))
