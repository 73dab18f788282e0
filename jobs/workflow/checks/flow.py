"""What is known of the rows that leave a step, or an input, before there are any.

inputs.docs ── chunk (expand) ── part (generate) ── best (reduce by parent)
width 1        width 8           width 8            width 1
               parents: docs     parents: docs
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from ..expressions.types import Type, joined


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows on their way.

    Attributes:
        name: the step's id, or the input's with `inputs.` before it.
        is_open: whether there may be more columns: those of an input that is not there yet.
        region: number of the region in which they lie.
        width: how many of them there are at most for one row of an input.
        region_width: the same for one row of the first step of the region.
        parents: those that they were made from, if they are children; the nearest last.
        is_traced: whether all that is known; it is not behind a step that something is wrong with.
    """

    name: str
    columns: Mapping[str, Type]
    is_open: bool
    region: int
    width: int = 1
    region_width: int = 1
    parents: "tuple[Flow, ...]" = ()
    is_traced: bool = True

    @property
    def row_type(self) -> Type:
        """Return the type that `row` has in expressions."""
        return Type.object_of(self.columns, is_open=self.is_open)

    def adding(self, name: str, added: Mapping[str, Type]) -> Self:
        """Return the same rows with more columns."""
        return replace(self, name=name, columns={**self.columns, **added})

    def children(self, name: str, added: Mapping[str, Type], times: int) -> Self:
        """Return what so many children of each row are."""
        return replace(
            self.adding(name, added),
            width=self.width * times,
            region_width=self.region_width * times,
            parents=(*self.parents, self),
        )

    def gathered(self, region: int) -> Self:
        """Return the same rows at the beginning of a region of their own."""
        return replace(self, region=region, region_width=1)


def concatenated(flows: tuple[Flow, ...]) -> Flow:
    """Return what rows of several steps are, whichever they come from."""
    first = flows[0]
    names = dict.fromkeys(name for flow in flows for name in flow.columns)
    columns = {
        name: joined([flow.columns[name] for flow in flows if name in flow.columns])
        for name in names
    }
    lineages = {tuple(parent.name for parent in flow.parents) for flow in flows}
    return replace(
        first,
        columns=columns,
        is_open=any(flow.is_open for flow in flows),
        width=sum(flow.width for flow in flows),
        region_width=sum(flow.region_width for flow in flows),
        parents=first.parents if len(lineages) == 1 else (),
        is_traced=all(flow.is_traced for flow in flows),
    )
