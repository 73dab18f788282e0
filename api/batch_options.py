"""What a batcher was told once for all its requests, and how one request is written.

Knows OpenAI's body of a chat and the options of a job. Knows no queue and no server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral  # numpy's are, too
from typing import Any, TypeAlias

from ..jobs.model import SamplingParams
from .batch_calls import ID_COLUMN, Request
from .chat_calls import Messages, as_messages
from .client_errors import InvalidInput
from .job_calls import SubmitOptions
from .row_lines import json_line

# What can be asked: a text, a conversation, or a row for the batcher's own template.
Question: TypeAlias = Messages | Mapping[str, Any]

_OURS = ("id", "idempotency_key", "format", "endpoint")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What is said of every job that a batcher makes."""

    of_job: SubmitOptions

    def __post_init__(self) -> None:
        """Check what is said.

        Raises:
            TypeError: nobody knows an option, or the batcher decides it itself.
        """
        for name in self.of_job:
            if name not in SubmitOptions.__annotations__ or name in _OURS:
                known = ", ".join(n for n in SubmitOptions.__annotations__ if n not in _OURS)
                raise TypeError(f"unknown option {name!r} for a batcher; there are {known}")

    @property
    def has_template(self) -> bool:
        """Whether what is asked is a row for a template."""
        return bool(self.of_job.get("prompt") or self.of_job.get("messages"))

    def for_job(self, model: str | None) -> SubmitOptions:
        """Say everything about the next job."""
        options: SubmitOptions = {"name": "batcher", **self.of_job, "model": model}
        options["id"] = ID_COLUMN
        return options

    def request(
        self, question: Question, model: str | None, said: Mapping[str, Any]
    ) -> tuple[str | None, Request]:
        """Write one request, and name its model.

        Raises:
            InvalidInput: it cannot be written as JSON, or does not fit what the batcher was told.
        """
        if self.has_template:
            row, number = self._row(question, said), None
        else:
            if isinstance(question, Mapping):
                raise InvalidInput(
                    "a row needs a batcher with a template: batcher(prompt=…); without one, give "
                    "a text or a list of messages"
                )
            if said.get("stream"):
                raise InvalidInput("a bulk job does not stream; leave `stream` out")
            body = {"messages": as_messages(question), **said}
            row, number = {"body": body}, body.get("n")
        try:
            line = json_line(row).rstrip()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"this request cannot be written as JSON: {error}") from error
        if number is None:
            sampling = self.of_job.get("sampling") or {}
            number = sampling.n if isinstance(sampling, SamplingParams) else sampling.get("n")
        # What cannot be a number is its row's error, and that lands once.
        num_samples = max(1, int(number)) if isinstance(number, Integral) else 1
        return model or self.of_job.get("model"), Request(line, num_samples)

    def _row(self, question: Question, said: Mapping[str, Any]) -> dict[str, Any]:
        """Take a row for the template; how it is answered was said for all of them."""
        if said:
            raise InvalidInput(
                f"with a template, {min(said)!r} is said once for all rows: batcher(sampling=…)"
            )
        if isinstance(question, str):
            return {"text": question}
        if not isinstance(question, Mapping):
            raise InvalidInput(
                "the batcher has a template: give a row, as in {'text': …}, or a text, which is "
                f"{{{{ row.text }}}}; got {type(question).__name__}"
            )
        if ID_COLUMN in question:
            raise InvalidInput(f"a row's column cannot be called {ID_COLUMN!r} in a batcher")
        return dict(question)
