"""Rows that share prefixes attend to the same as if they did not."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from penstock.kernels import reference, reference_cache
from penstock.kernels.triton_attention import SPLIT_TOKENS
from penstock.kernels.triton_cascade import PrefixGroups, cascade_attention
from penstock.kernels.triton_decode import Partials, decode_attention
from tests.kernels.triton_cases import DTYPES, assert_agree, attention_case, poisoned_memory


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    with poisoned_memory():
        yield


def shared_case(dtype: torch.dtype, heads: int, kv_heads: int, dim: int) -> Any:
    """Rows 1, 4 and 5 share 512 tokens, rows 2 and 0 share 256, row 3 is alone."""
    lengths = [300, 513, 257, 40, 700, 600]
    case = attention_case([(1, n) for n in lengths], heads, kv_heads, dim, dtype, columns=48)
    groups = [(512, [1, 4, 5]), (256, [2, 0])]
    prefix_lens = torch.zeros(len(lengths), dtype=torch.int32)
    tables = case["block_tables"]
    for shared, rows in groups:
        tables[rows, : shared // 16] = tables[rows[0], : shared // 16].clone()
        prefix_lens[rows] = shared
    members = torch.tensor([row for _, rows in groups for row in rows]).int()
    return case, PrefixGroups(members, torch.tensor([0, 3, 5]).int(), prefix_lens, 512)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cascade(dtype: torch.dtype, softcap: float | None) -> None:
    case, groups = shared_case(dtype, 6, 2, 32)
    expected = reference.paged_attention(**case, softcap=softcap)
    assert_agree(cascade_attention(groups=groups, **case, softcap=softcap), expected)


def test_one_tile_does_not_hold_a_group() -> None:
    case, groups = shared_case(DTYPES[0], 40, 1, 16)  # one row a tile
    assert_agree(cascade_attention(groups=groups, **case), reference.paged_attention(**case))


def test_shared_keys_are_read_where_the_group_has_them() -> None:
    """The prefix of all but the first member is in blocks full of NaN, and nobody looks."""
    case, groups = shared_case(DTYPES[0], 2, 1, 16)
    expected = reference.paged_attention(**case)
    for rows, shared in [([4, 5], 512), ([0], 256)]:
        case["block_tables"][rows, : shared // 16] = 0
    assert_agree(cascade_attention(groups=groups, **case), expected)


def test_splits_are_merged_as_their_twin_merges_them() -> None:
    case = attention_case([(1, 700), (1, 300), (1, 260)], 4, 2, 16, DTYPES[0])
    partials = Partials(case["query"], 3, 3)
    found = decode_attention(**case, partials=partials)
    counts = -(-case["context_lens"] // SPLIT_TOKENS)
    assert_agree(found, reference_cache.merge_splits(partials.sums, partials.logs, counts))


def test_rows_with_several_tokens_are_refused() -> None:
    case, groups = shared_case(DTYPES[0], 2, 1, 16)
    case["query"] = torch.randn(7, 2, 16)
    with pytest.raises(ValueError, match="must bring one token each, got 7 tokens of 6 rows"):
        cascade_attention(groups=groups, **case)
