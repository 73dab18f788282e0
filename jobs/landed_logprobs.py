"""Log-probabilities of a row's tokens between the engine and a part. Knows their Arrow type.

Until a shard lands they are kept as bytes, as they may be many: a thousand tokens for each of a
thousand rows, and up to twenty more beside each.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import msgspec
import pyarrow as pa

from ..engine.outputs import TokenLogprobs

_TOKEN = (
    pa.field("token", pa.string()),
    pa.field("token_id", pa.int32()),
    pa.field("logprob", pa.float32()),
)
_TOP = pa.list_(pa.struct(_TOKEN))
LOGPROBS = pa.list_(pa.struct([*_TOKEN, pa.field("top", _TOP)]))

_Entry = tuple[str, int, float]
_Packed = msgspec.msgpack.Decoder(list[tuple[str, int, float, list[_Entry]]])


def pack_logprobs(records: Iterable[TokenLogprobs], text_of: Callable[[int], str]) -> bytes:
    """Keep the records of one sample, with the texts of their tokens."""
    return msgspec.msgpack.encode(
        [
            (
                text_of(each.token_id),
                each.token_id,
                each.logprob,
                [(text_of(token_id), token_id, logprob) for token_id, logprob in each.top],
            )
            for each in records
        ]
    )


def logprobs_column(packed: Sequence[bytes | None]) -> pa.Array:
    """Make the column of a part, a list for each row; null where they were not asked for.

    Built from flat columns: as Python objects a part's tokens could take gigabytes.
    """
    tokens, tops = _Tokens(), _Tokens()
    ends, top_ends = array("i", [0]), array("i", [0])
    for data in packed:
        for text, token_id, logprob, top in _Packed.decode(data) if data is not None else ():
            tokens.add(text, token_id, logprob)
            for entry in top:
                tops.add(*entry)
            top_ends.append(len(tops))
        ends.append(len(tokens))
    top = pa.ListArray.from_arrays(pa.array(top_ends, pa.int32()), tops.structs(_TOKEN))
    values = tokens.structs(tuple(LOGPROBS.value_type), top)
    missing = pa.array([data is None for data in packed], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=missing)


class _Tokens:
    """Tokens as columns."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._ids = array("i")
        self._logprobs = array("f")

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, text: str, token_id: int, logprob: float) -> None:
        self._texts.append(text)
        self._ids.append(token_id)
        self._logprobs.append(logprob)

    def structs(self, fields: Iterable[pa.Field], *more: pa.Array) -> pa.StructArray:
        columns = (
            pa.array(self._texts, pa.string()),
            pa.array(self._ids, pa.int32()),
            pa.array(self._logprobs, pa.float32()),
        )
        return pa.StructArray.from_arrays(list(chain(columns, more)), fields=list(fields))
