"""Where a column of a table holds an infinity, however deep. Knows Arrow, and nothing of rows."""

from typing import Any

from .tables import need


def first_infinity(column: Any) -> int | None:
    """Say which row of a column is the first that is, or holds, an infinity; None if none does."""
    arrow, compute = need("pyarrow", "sending a table"), need("pyarrow.compute", "sending a table")
    kind, types = column.type, arrow.types
    if not _has_floats(kind):
        return None
    if types.is_floating(kind):
        place = compute.index(compute.is_inf(column), True).as_py()
        return None if place < 0 else place
    if types.is_dictionary(kind):
        chunks = [chunk.dictionary_decode() for chunk in column.chunks]
        return first_infinity(arrow.chunked_array(chunks, kind.value_type))
    if types.is_struct(kind):
        fields = (compute.struct_field(column, [place]) for place in range(kind.num_fields))
        return min((row for row in map(first_infinity, fields) if row is not None), default=None)
    if types.is_map(kind):  # to Arrow it is no list, though it is one of pairs
        column = column.cast(arrow.list_(kind.field(0)))
    place = first_infinity(compute.list_flatten(column))
    return None if place is None else compute.list_parent_indices(column)[place].as_py()


def _has_floats(kind: Any) -> bool:
    types = need("pyarrow", "sending a table").types
    if types.is_dictionary(kind):
        return _has_floats(kind.value_type)
    inner = (kind.field(place).type for place in range(kind.num_fields))
    return types.is_floating(kind) or any(map(_has_floats, inner))
