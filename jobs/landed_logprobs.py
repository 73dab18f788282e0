"""Log-probabilities of a row's tokens between the engine and a part. Knows their Arrow type.

They may be many: a thousand tokens for each of hundreds of rows, and up to twenty more beside each.
So they are kept as flat columns in bytes until their shard lands, each text once for a row, and
never as objects: a part of five million takes a second then, and no gigabyte.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ..engine.outputs import TokenLogprobs

_TOKEN = (
    pa.field("token", pa.string()),
    pa.field("token_id", pa.int32()),
    pa.field("logprob", pa.float32()),
)
_TOP = pa.list_(pa.struct(_TOKEN))
LOGPROBS = pa.list_(pa.struct([*_TOKEN, pa.field("top", _TOP)]))


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """One sample: its tokens, then the likeliest beside each, as int32 and float32 columns."""

    ids: bytes
    logprobs: bytes
    num_top: bytes  # of each token
    top_ids: bytes
    top_logprobs: bytes
    texts: dict[int, str]


def pack_logprobs(records: Sequence[TokenLogprobs], text_of: Callable[[int], str]) -> bytes:
    """Keep the records of one sample, with the texts of their tokens."""
    ids = array("i", (each.token_id for each in records))
    top_ids = array("i", (token_id for each in records for token_id, _ in each.top))
    return msgspec.msgpack.encode(
        _Packed(
            ids=ids.tobytes(),
            logprobs=array("f", (each.logprob for each in records)).tobytes(),
            num_top=array("i", (len(each.top) for each in records)).tobytes(),
            top_ids=top_ids.tobytes(),
            top_logprobs=array("f", (lp for each in records for _, lp in each.top)).tobytes(),
            texts={token_id: _whole(text_of(token_id)) for token_id in {*ids, *top_ids}},
        )
    )


def logprobs_column(packed: Sequence[bytes | None]) -> pa.Array:
    """Make the column of a part, a list for each row; null where they were not asked for."""
    rows = [None if each is None else msgspec.msgpack.decode(each, type=_Packed) for each in packed]
    asked = [row for row in rows if row is not None]
    texts = {token_id: text for row in asked for token_id, text in row.texts.items()}
    likeliest = _columns(
        texts, b"".join(row.top_ids for row in asked), b"".join(row.top_logprobs for row in asked)
    )
    num_top = array("i")
    num_top.frombytes(b"".join(row.num_top for row in asked))
    tokens = _columns(
        texts, b"".join(row.ids for row in asked), b"".join(row.logprobs for row in asked)
    )
    top = _lists(num_top, likeliest, _TOKEN)
    missing = pa.array([row is None for row in rows], pa.bool_())
    num_tokens = (0 if row is None else len(row.ids) // 4 for row in rows)
    return _lists(num_tokens, [*tokens, top], LOGPROBS.value_type, missing)


def _lists(
    lengths: Iterable[int],
    columns: Sequence[pa.Array],
    fields: Iterable[pa.Field],
    missing: pa.Array | None = None,
) -> pa.ListArray:
    offsets = pa.array(accumulate(lengths, initial=0), pa.int32())
    values = pa.StructArray.from_arrays(list(columns), fields=list(fields))
    return pa.ListArray.from_arrays(offsets, values, mask=missing)


def _columns(texts: Mapping[int, str], ids: bytes, logprobs: bytes) -> list[pa.Array]:
    """Make the three columns of some tokens."""
    token_ids = _flat(pa.int32(), ids)
    known = pa.array(list(texts), pa.int32())
    places = pc.index_in(token_ids, value_set=known)  # pyright: ignore[reportAttributeAccessIssue] # made at import, unseen by the stubs
    words = pa.array(list(texts.values()), pa.string()).take(places)
    return [words, token_ids, _flat(pa.float32(), logprobs)]


def _flat(kind: pa.DataType, data: bytes) -> pa.Array:
    return pa.Array.from_buffers(kind, len(data) // 4, [None, pa.py_buffer(data)])


def _whole(text: str) -> str:
    """Replace what UTF-8 cannot hold, as elsewhere in a part."""
    return text.encode("utf-8", "replace").decode()
