"""What a submission does that it is allowed to, and is hardly meant to. Knows templates, no row."""

from collections.abc import Sequence

from .submit_request import SubmitRequest, longest_answer
from .template_sandbox import ROW
from .templates import names_read

_COLUMNS_SHOWN = 10


def warnings_of(
    request: SubmitRequest, columns: Sequence[str], num_rows: int, context_window: int | None
) -> list[str]:
    """Say what whoever submits this may not have seen.

    Args:
        request: one that can become a job.
        columns: those that the input has.
        num_rows: how many rows there are.
        context_window: tokens of a prompt and its answer; None where nobody knows.
    """
    found = (
        _unread_row(request, columns, num_rows),
        _too_long_answers(request, context_window),
    )
    return [warning for warning in found if warning is not None]


def _unread_row(request: SubmitRequest, columns: Sequence[str], num_rows: int) -> str | None:
    """Tell of templates that make the same of every row, or pass the only column over."""
    task = request.task
    if (task.prompt is None and task.messages is None) or num_rows < 2 or not columns:
        return None
    names = names_read(task)
    likely = next((name for name in columns if name != request.id_column), columns[0])
    remedy = f"write {{{{ {_read_as(likely)} }}}} where a row's own value belongs"
    if not names:
        what = "the template names" if task.prompt is not None else "the messages name"
        shown = ", ".join(columns[:_COLUMNS_SHOWN]) + (
            ", …" if len(columns) > _COLUMNS_SHOWN else ""
        )
        return (
            f"{what} no column: all {num_rows:,} rows get the same prompt (columns: {shown}); "
            f"{remedy}"
        )
    if len(columns) == 1 and ROW not in names and columns[0] != request.id_column:
        return f"the input's only column, {columns[0]!r}, is used nowhere: {remedy}"
    return None


def _too_long_answers(request: SubmitRequest, context_window: int | None) -> str | None:
    """Tell of answers that the context cannot hold, beside whatever prompt."""
    max_tokens = longest_answer(request.task)
    if max_tokens is None or context_window is None or max_tokens < context_window:
        return None
    return (
        f"max_tokens={max_tokens:,} is not less than the context of {context_window:,} tokens, "
        "which a prompt and its answer share: a server whose workers have that context refuses it"
    )


def _read_as(column: str) -> str:
    """Write how a template reads a column."""
    return f"{ROW}.{column}" if column.isidentifier() else f"{ROW}[{column!r}]"
