"""What the server says, as records. Knows no transport, and forgives fields it has never heard of.

A job is a frozen record; a result row stays a dict, because its columns are the user's.
"""

import json
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

from ..jobs.model import Counts, JobState, RejectedLine
from .client_errors import RowFailed
from .seen_state import seen_state

Rows = TypeVar("Rows", bound=Sized)  # of one page


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a job or of one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stood when the server last told us."""

    id: str
    status: JobState
    name: str | None = None
    model: str = ""
    priority: int = 0
    counts: Counts = field(default_factory=Counts)
    usage: Usage = field(default_factory=Usage)
    rows_per_s: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    output_path: str | None = None
    error: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    rejected: tuple[RejectedLine, ...] = ()  # known to the submitter only, the first hundred
    status_reason: str | None = None  # why it stands where it does: "code: in words"
    deadline: datetime | None = None
    max_error_rate: float | None = None
    errors_by_code: Mapping[str, int] = field(default_factory=dict)
    retry_of: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the answer as it came

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a job object."""
        rate = data.get("rate") or {}
        rejected = (data.get("rejected") or {}).get("errors") or []
        return cls(
            id=data["id"],
            status=seen_state(data["status"]),
            name=data.get("name"),
            model=data.get("model") or "",
            priority=data.get("priority") or 0,
            counts=_known(Counts, data.get("counts")),
            usage=_known(Usage, data.get("usage")),
            rows_per_s=rate.get("rows_per_s"),
            tokens_per_s=rate.get("tokens_per_s"),
            eta_s=data.get("eta_s"),
            output_path=(data.get("output") or {}).get("path"),
            error=_error_text(data.get("error")),
            created_at=moment_of(data.get("created_at")),
            started_at=moment_of(data.get("started_at")),
            finished_at=moment_of(data.get("finished_at")),
            metadata=data.get("metadata") or {},
            rejected=tuple(RejectedLine(line["line"], line["message"]) for line in rejected),
            status_reason=data.get("status_reason"),
            deadline=moment_of(data.get("deadline")),
            max_error_rate=data.get("max_error_rate"),
            errors_by_code=data.get("errors_by_code") or {},
            retry_of=data.get("retry_of"),
            raw=data,
        )

    @property
    def duration_s(self) -> float | None:
        """Give the time from the first row's start to the end, or to now while it runs."""
        if self.started_at is None:
            return None
        return ((self.finished_at or datetime.now(UTC)) - self.started_at).total_seconds()


class Row(dict[str, Any]):
    """One landed row: our columns and the user's own, by name.

    With a pydantic model, `parsed` is an instance of it.
    """

    __slots__ = ("_model",)

    def __init__(self, columns: Mapping[str, Any], model: Any = None) -> None:
        super().__init__(columns)
        self._model = model

    @property
    def ok(self) -> bool:
        """Whether the row succeeded, and is the document that was asked for, if one was."""
        return self.succeeded and self.parse_error is None

    @property
    def succeeded(self) -> bool:
        """Whether there is an answer, be it what was asked for or not."""
        return self.get("status") == "succeeded"

    @property
    def index(self) -> int:
        """The row's place in the input."""
        return self["row_index"]

    @property
    def custom_id(self) -> str | None:
        """What the column that was named as `id` held."""
        return self.get("custom_id")

    @property
    def output(self) -> str | None:
        """The generated text."""
        return self.get("output")

    @property
    def parsed(self) -> Any:
        """The answer as a document, where a schema was declared; with a model, its instance.

        None if there is no answer, or one that is no such document: `parse_error` says why.
        """
        text = self.get("output_json")
        if self._model is None or text is None:
            return self.get("parsed") if text is None else json.loads(text)
        try:
            return self._model.model_validate_json(text)
        except ValueError:  # as pydantic's are
            return None

    @property
    def parse_error(self) -> str | None:
        """Why the answer is not the document that was asked for; None if it is, or none was.

        A model may ask for more than a schema can say.
        """
        wants_document = self._model is not None or "parsed" in self
        if not self.succeeded or not wants_document:
            return None
        text = self.get("output_json")
        if text is None:
            return f"the answer is no JSON; it ended for: {self.get('finish_reason')}"
        if self._model is None:
            return None
        try:
            self._model.model_validate_json(text)
        except ValueError as error:
            return str(error)
        return None

    @property
    def tool_calls(self) -> list[dict[str, str]]:
        """The calls that the answer makes: id, name, arguments as JSON."""
        return self.get("tool_calls") or []

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the row failed: code, message, stage."""
        return self.get("error")

    def raise_if_failed(self) -> None:
        """Raise `RowFailed` unless the row is `ok`."""
        if not self.ok:
            unparsed = {"code": "not_parsed", "message": self.parse_error}
            error = self.error or (unparsed if self.succeeded else {})
            code = error.get("code") or str(self.get("status"))
            message = f"row {self.get('row_index')} has no answer: {code}: {error.get('message')}"
            raise RowFailed(message, code, str(self.get("row_id")).partition("/")[0])


@dataclass(frozen=True, slots=True)
class ResultsPage(Generic[Rows]):
    """Some rows, and where to go on."""

    rows: Rows
    next_cursor: str | None
    incomplete: bool  # rows behind this page have not landed yet


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One thing that happened to a job; `id` is where a broken stream goes on."""

    id: str
    kind: str  # job.status | job.progress | shard.landed | reset | done
    data: Any


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer. `tool_calls` are OpenAI's objects.

    Where `n` asked for several, `text` is the first of `texts`, and `tool_calls` are its own.
    """

    text: str
    finish_reason: str | None
    model: str
    usage: Usage
    raw: Mapping[str, Any] = field(repr=False)
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a `chat.completion` object."""
        choice = data["choices"][0]
        texts = tuple(each["message"].get("content") or "" for each in data["choices"])
        return cls(
            text=texts[0],
            finish_reason=choice.get("finish_reason"),
            model=data.get("model") or "",
            usage=_known(Usage, data.get("usage")),
            raw=data,
            tool_calls=tuple(choice["message"].get("tool_calls") or ()),
            texts=texts,
        )


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer; the last piece carries `finish_reason`.

    Where `n` asked for several, `index` says of which it is.
    """

    text: str
    finish_reason: str | None
    raw: Mapping[str, Any] = field(repr=False)
    index: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a `chat.completion.chunk` object; a chunk without choices has no text."""
        choice = (data.get("choices") or [{}])[0]
        text = (choice.get("delta") or {}).get("content") or ""
        return cls(text, choice.get("finish_reason"), data, choice.get("index") or 0)


def _known(kind: type[Any], data: Mapping[str, Any] | None) -> Any:
    """Fill a flat record with the fields it knows."""
    names = {item.name for item in fields(kind)}
    return kind(**{key: value for key, value in (data or {}).items() if key in names})


def moment_of(unix_s: float | None) -> datetime | None:
    """Read a moment; None where there is none, or one that no calendar here can show."""
    if unix_s is None:
        return None
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError):  # one odd record must not hide the others
        return None


def _error_text(error: Any) -> str | None:
    return error.get("message") if isinstance(error, dict) else error
