"""Attention of single tokens agrees with its twin, whatever lies in memory around it."""

from typing import Any

import numpy as np
import pytest
import torch

from penstock.kernels import reference
from penstock.kernels.prefix_groups import SPLIT_TOKENS
from penstock.kernels.triton_decode import decode_attention
from penstock.kernels.triton_prefill import prefill_attention
from penstock.kernels.triton_rotary import rotate_and_cache
from tests.kernels.cases import assert_agree, assert_faults_are_seen, attention_case
from tests.kernels.triton_cases import DEVICE, DTYPES, in_eight_bits

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "block"),
    [(1, 1, 16, 16), (14, 2, 64, 16), (6, 2, 80, 32), (4, 1, 256, 16)],
)
def test_decode(dtype: torch.dtype, heads: int, kv_heads: int, dim: int, block: int) -> None:
    rows = [(1, length) for length in (1, 15, 16, 17, 255, 256, 257, 600)]
    case = attention_case(rows, heads, kv_heads, dim, dtype, block)
    assert_agree(decode_attention(**case), reference.paged_attention(**case))


@pytest.mark.parametrize("window", [1, 20, 300])
def test_window(window: int) -> None:
    case = attention_case([(1, n) for n in (1, 19, 21, 256, 257, 601)], 4, 2, 32, DTYPES[0])
    found = decode_attention(**case, sliding_window=window)
    assert_agree(found, reference.paged_attention(**case, sliding_window=window))


def test_softcap() -> None:
    case = attention_case([(1, 5), (1, 300)], 4, 2, 32, DTYPES[0])
    case["query"] *= 9
    found = decode_attention(**case, softcap=3.0)
    assert_agree(found, reference.paged_attention(**case, softcap=3.0))
    assert (found - decode_attention(**case)).abs().max() > 0.1


def test_rows_with_several_tokens_are_skipped() -> None:
    case = attention_case([(3, 9), (1, 300), (2, 270), (1, 4)], 4, 2, 16, DTYPES[0])
    expected = reference.paged_attention(**case)
    found = decode_attention(**case)
    assert_agree(found[[3, 6]], expected[[3, 6]])
    assert found[[0, 1, 2, 4, 5]].isnan().all()


def test_a_row_has_the_same_bits_in_any_company() -> None:
    case = attention_case([(1, 300), (1, 7), (1, 900)], 4, 2, 16, DTYPES[0], columns=80)
    whole = decode_attention(**case)
    alone: dict[str, Any] = case | {
        "query": case["query"][2:],
        "query_start": torch.tensor([0, 1]).int(),
        "context_lens": case["context_lens"][2:],
        "block_tables": case["block_tables"][2:],
    }
    assert torch.equal(decode_attention(**alone), whole[2:])


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("places", [[0], [300], range(SPLIT_TOKENS), range(SPLIT_TOKENS, 400)])
def test_keys_that_are_no_numbers_are_seen(fault: float, places: Any) -> None:
    case = attention_case([(1, 400), (1, 40)], 2, 1, 16, DTYPES[0])
    assert_faults_are_seen(decode_attention, case, places, fault)


def test_half_the_cache_in_eight_bits() -> None:
    case = attention_case([(1, 40), (1, 300)], 4, 2, 16, DTYPES[0])
    wide = case["cache"]
    narrow = in_eight_bits(wide, 0.5, 0.25)
    case["cache"] = narrow
    found = decode_attention(**case)
    assert_agree(found, reference.paged_attention(**case))
    case["cache"] = reference.LayerCache(narrow.key.float() * 0.5, narrow.value.float() * 0.25)
    assert_agree(found, reference.paged_attention(**case))


def test_a_cache_in_another_order_is_refused() -> None:
    case = attention_case([(1, 5)], 2, 2, 16, DTYPES[0])
    turned = case["cache"].key.transpose(1, 2).contiguous().transpose(1, 2)
    case["cache"] = reference.LayerCache(turned, turned)
    with pytest.raises(ValueError, match="the GPU kernels read keys as"):
        decode_attention(**case)


def test_heads_that_share_no_key_head_are_refused() -> None:
    case = attention_case([(1, 5)], 2, 2, 16, DTYPES[0])
    case["query"] = torch.randn(1, 3, 16)
    with pytest.raises(ValueError, match="must be a multiple of the 2 key-value heads, got 3"):
        decode_attention(**case)


def test_blocks_beyond_two_billion_numbers() -> None:
    """Offsets into the cache need 64 bits. The memory between the blocks is never touched."""
    block_stride, last = 2**27, 17
    storage = np.zeros(block_stride * last + 2 * 16 * 16, np.float16)
    numbers = torch.from_numpy(storage).to(DEVICE)
    shape, stride = (last + 1, 16, 1, 16), (block_stride, 16, 16, 1)
    key = numbers.as_strided(shape, stride)
    value = numbers.as_strided(shape, stride, storage_offset=16 * 16)
    cache = reference.LayerCache(key, value)
    query, table = torch.randn(1, 2, 16, dtype=torch.float16), torch.tensor([[last]]).int()
    qkv, rotation = torch.randn(1, 4 * 16, dtype=torch.float16), torch.ones(2, 16)
    place, slot = torch.tensor([1]), torch.tensor([last * 16])
    rotate_and_cache(qkv, place, rotation, cache, slot)
    assert (value[last, 0] == qkv[0, -16:]).all()
    start, lengths = torch.tensor([0, 1]).int(), torch.tensor([1]).int()
    for attend in (decode_attention, prefill_attention):
        found = attend(query, cache, start, lengths, table, 0.25)
        assert_agree(found, qkv[:, None, -16:].expand(1, 2, 16))
