"""Rows that share prefixes attend to the same as if they did not."""

from typing import Any

import pytest
import torch

from penstock.kernels import reference
from penstock.kernels.prefix_groups import SPLIT_TOKENS, PrefixGroups
from penstock.kernels.triton_cascade import cascade_attention
from penstock.kernels.triton_decode import Partials, decode_attention
from penstock.kernels.triton_ops import TritonOps
from tests.kernels.cases import assert_agree, attention_case
from tests.kernels.triton_cases import DEVICE, DTYPES, grouped, in_eight_bits, no_groups

pytestmark = pytest.mark.usefixtures("poisoned")


SHARED = [(256, [1, 4, 5, 6]), (512, [1, 4, 5]), (256, [2, 0])]


def shared_case(
    dtype: torch.dtype, heads: int, kv_heads: int, dim: int
) -> tuple[dict[str, Any], PrefixGroups]:
    """Rows 1, 4 and 5 share 512 tokens, half of it with 6; rows 2 and 0 256; row 3 is alone."""
    lengths = [300, 513, 257, 40, 700, 600, 300]
    case = attention_case(
        [(1, length) for length in lengths], heads, kv_heads, dim, dtype, columns=48
    )
    tables = case["block_tables"]
    for shared, members in SHARED:
        tables[members, : shared // 16] = tables[members[0], : shared // 16].clone()
    groups = grouped(case)
    assert groups.prefix_lens.tolist() == [256, 512, 256, 0, 512, 512, 256]
    return case, groups


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
    begins = groups.group_start[:-1].tolist()
    leaders = {int(groups.members[begin]) for begin in begins if begin < groups.group_start[-1]}
    for shared, rows in SHARED:
        others = [row for row in rows if row not in leaders]
        case["block_tables"][others, : shared // 16] = 0
    assert_agree(cascade_attention(groups=groups, **case), expected)


def merged(sums: torch.Tensor, logs: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return attention [R, H, D] over the first `counts` splits of each row, from all splits'.

    Args:
        sums: float32 [R, splits, H, D], attention over each split by itself.
        logs: float32 [R, splits, H], base-2 logarithms of the sums of exponentials.
        counts: int32 [R].
    """
    is_there = torch.arange(sums.shape[1]) < counts[:, None]
    logs = logs.masked_fill(~is_there[..., None], -torch.inf) * torch.log(torch.tensor(2.0))
    weights = torch.softmax(logs, dim=1)
    return (sums.masked_fill(~is_there[..., None, None], 0) * weights[..., None]).sum(1)


def test_splits_are_merged_as_their_twin_merges_them() -> None:
    case = attention_case([(1, 700), (1, 300), (1, 260)], 4, 2, 16, DTYPES[0])
    partials = Partials(case["query"], 3, 3)
    found = decode_attention(**case, partials=partials)
    counts = -(-case["context_lens"] // SPLIT_TOKENS)
    assert_agree(found, merged(partials.sums, partials.logs, counts))


def test_rows_with_several_tokens_may_stand_between() -> None:
    case, groups = shared_case(DTYPES[0], 2, 1, 16)
    counts = [1, 1, 1, 40, 1, 1, 1]
    case["query"] = torch.randn(46, 2, 16)
    case["query_start"] = torch.tensor([0, *counts]).cumsum(0).int()
    found = TritonOps().paged_attention(**case, groups=groups)
    assert_agree(found, reference.paged_attention(**case))


def test_a_window_leaves_the_hint_aside() -> None:
    case, groups = shared_case(DTYPES[0], 2, 1, 16)
    found = TritonOps().paged_attention(**case, sliding_window=300, groups=groups)
    assert_agree(found, reference.paged_attention(**case, sliding_window=300))


def test_the_cache_may_be_in_eight_bits() -> None:
    case, groups = shared_case(DTYPES[0], 4, 2, 16)
    case["cache"] = in_eight_bits(case["cache"], 0.5, 0.25)
    found = cascade_attention(groups=groups, **case)
    assert_agree(found, reference.paged_attention(**case))


def test_the_twin_takes_the_hint_too() -> None:
    case, groups = shared_case(DTYPES[0], 4, 2, 16)
    expected = reference.paged_attention(**case)
    assert torch.equal(reference.paged_attention(**case, groups=groups), expected)
    case["block_tables"][4, :32] = 0  # where no number is
    assert torch.equal(reference.paged_attention(**case, groups=groups), expected)


def test_no_groups_are_no_fault() -> None:
    case, _ = shared_case(DTYPES[0], 4, 2, 16)
    nobody = no_groups(9, DEVICE)
    assert_agree(cascade_attention(groups=nobody, **case), reference.paged_attention(**case))


def test_groups_of_other_rows_are_refused() -> None:
    case, _ = shared_case(DTYPES[0], 2, 1, 16)
    with pytest.raises(ValueError, match="prefix_lens must tell of all 7 rows, got 6"):
        cascade_attention(groups=no_groups(6, DEVICE), **case)
