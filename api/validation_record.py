"""What a dry run has found, as a client holds it. Forgives fields it has never heard of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..jobs.model import RejectedLine
from .validation_facts import validation_text


@dataclass(frozen=True, slots=True)
class JobValidation:
    """What submitting these rows would come to. Lines count from 1, of Parquet they count rows.

    Attributes:
        ok: all was read, and nothing is wrong with it.
        complete: all was read; otherwise `stopped` says why not, and figures are of the first rows.
        refusal: why the job as a whole would be refused.
        bad_lines: those that cannot become rows, the first hundred of `num_bad_lines`.
        num_row_errors: rows that would fail before the model sees them; `raw` groups them.
        num_too_long: rows that leave the model no room for an answer.
        num_duplicates: rows that ask what an earlier row asks, word by word.
        input_tokens: of all prompts; None where nobody could count them.
        is_estimated: some rows were not counted, and are taken to be like the others.
        reused_share: of the prompts' tokens that a prefix cache would save.
        output_tokens: what earlier jobs make likely; `output_at_most` is the bound.
        seconds: how long it would take, as a half and as nine of ten jobs would; None is unknown.
        unchecked: what could not be looked at.
        warnings: what is allowed and hardly meant, such as a template that names no column.
        raw: the answer as it came.
    """

    ok: bool
    complete: bool
    rows: int
    stopped: str | None = None
    refusal: str | None = None
    bad_lines: tuple[RejectedLine, ...] = ()
    num_bad_lines: int = 0
    num_row_errors: int = 0
    num_too_long: int = 0
    num_duplicates: int = 0
    num_duplicate_ids: int = 0
    input_tokens: int | None = None
    is_estimated: bool = False
    reused_share: float | None = None
    output_tokens: int | None = None
    output_at_most: int | None = None
    seconds: tuple[float | None, float | None] | None = None
    unchecked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a validation object."""
        parts = _Parts(data)
        seconds = data.get("seconds")
        tokens = data.get("input_tokens")
        return cls(
            ok=bool(data.get("ok")),
            complete=bool(data.get("complete")),
            rows=data.get("rows") or 0,
            stopped=data.get("stopped"),
            refusal=parts.of("refusal", "message"),
            bad_lines=tuple(
                RejectedLine(each["line"], each["message"])
                for each in parts.of("bad_lines", "errors") or ()
            ),
            num_bad_lines=parts.of("bad_lines", "count") or 0,
            num_row_errors=parts.of("row_errors", "count") or 0,
            num_too_long=parts.of("too_long", "count") or 0,
            num_duplicates=parts.of("duplicates", "count") or 0,
            num_duplicate_ids=parts.of("duplicate_ids", "count") or 0,
            input_tokens=parts.of("input_tokens", "total"),
            is_estimated=tokens is not None and not tokens.get("exact", True),
            reused_share=parts.of("prefix_reuse", "share"),
            output_tokens=parts.of("output_tokens", "expected"),
            output_at_most=parts.of("output_tokens", "at_most"),
            seconds=None if seconds is None else (seconds.get("p50"), seconds.get("p90")),
            unchecked=tuple(data.get("unchecked") or ()),
            warnings=tuple(data.get("warnings") or ()),
            raw=data,
        )

    def __str__(self) -> str:
        """Show all that was found, as the command line does."""
        return validation_text(self.raw)

    def _repr_html_(self) -> str:
        from .cards import validation_card  # for notebooks only

        return validation_card(self.raw)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Objects in an object, which may be null."""

    data: Mapping[str, Any]

    def of(self, name: str, field_name: str) -> Any:
        return (self.data.get(name) or {}).get(field_name)
