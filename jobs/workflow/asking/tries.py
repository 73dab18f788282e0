"""Asking, as if answers came at once; and asking again, by what was wrong with an answer.

What a step asks about a row is a generator, a talk: it yields asks, is sent their answers, and
returns what came of them. Nothing of it is kept anywhere. It begins anew each time, and gets as far
as there are answers; where one is missing, it waits to be begun again when that has come.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeAlias, TypeVar

from ...model import EMBED, RequestError
from ...row_request import CHAT
from ..answers import NOT_AS_ASKED, Form
from ..asks import Answer, Answers, Ask
from ..computing.ledger import RowFailed
from ..meta import Effort
from ..plan import PlannedStep
from ..row import Row

T = TypeVar("T")
Talk: TypeAlias = Generator[list[Ask], list[Answer], T]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be asked. `key` names it among all that a shard of the step asks."""

    key: str
    model: str
    said: Mapping[str, Any]  # prompt, messages or input


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question: a value, or the error of the last try."""

    value: Any = None
    error: RequestError | None = None
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True)
class Made:
    """A row that a step makes, as yet without the value; no reply where nothing could be asked."""

    row: Row
    reply: Reply | None


def advance(talk: Talk[T], answers: Answers) -> tuple[list[Ask], T | None]:
    """Lead a talk as far as there are answers: what it waits for, or what came of it."""
    try:
        asks = next(talk)
        while True:
            missing = [ask for ask in asks if ask.key not in answers]
            if missing:
                talk.close()
                return missing, None
            asks = talk.send([answers[ask.key] for ask in asks])
    except StopIteration as end:
        return [], end.value


class Asker:
    """Asks what one step asks, each question as often as its retries allow."""

    def __init__(self, step: PlannedStep, form: Form, seed: int = 0) -> None:
        self.form = form
        self._step = step
        sampling = {name: value for name, value in (step.sampling or {}).items() if name != "n"}
        self._seed_of_all = sampling.pop("seed", None)
        if self._seed_of_all is None:
            self._seed_of_all = f"{seed}/{step.id}"
        self._sampling = sampling
        self._max_invalid = step.retries.invalid_output if form.is_checked else 0

    def ask(self, questions: Iterable[Question]) -> Talk[list[Reply]]:
        """Ask several questions at once, and again those that were not answered as they should."""
        tries = [_Tries(self._step, self._max_invalid, question) for question in questions]
        while open_tries := [each for each in tries if each.reply is None]:
            answers = yield [self._ask(each) for each in open_tries]
            for each, answer in zip(open_tries, answers, strict=True):
                each.take(answer, self.form)
        return [each.reply for each in tries if each.reply is not None]

    def _ask(self, tries: "_Tries") -> Ask:
        question = tries.question
        body: dict[str, Any] = {"model": question.model, **question.said}
        if "input" in body:
            return Ask(tries.key, EMBED, question.model, body)
        body |= self._sampling
        body["seed"] = self._seed(tries)
        if tries.num_invalid or not self._max_invalid:
            body |= self.form.constraint
        return Ask(tries.key, CHAT, question.model, body)

    def _seed(self, tries: "_Tries") -> int:
        """Draw 63 bits: the same for a try that only machines had spoilt."""
        source = f"{self._seed_of_all}/{tries.question.key}~{tries.num_invalid}"
        digest = blake2b(source.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1


class _Tries:
    """One question, and how often it was asked for which reason."""

    def __init__(self, step: PlannedStep, max_invalid: int, question: Question) -> None:
        self.question = question
        self.reply: Reply | None = None
        self.num_invalid = 0
        self._num_transient = 0
        self._max_invalid = max_invalid
        self._max_transient = step.retries.transient
        self._answers: list[Answer] = []

    @property
    def key(self) -> str:
        """Name the next try."""
        number = len(self._answers)
        return f"{self.question.key}~{number}" if number else self.question.key

    def take(self, answer: Answer, form: Form) -> None:
        """Settle the question with an answer, unless it is to be asked again."""
        self._answers.append(answer)
        value, error = None, answer.error
        if error is None:
            try:
                value = form.read(answer)
            except RowFailed as failure:
                error = failure.error
        if error is not None and error.retryable and self._num_transient < self._max_transient:
            self._num_transient += 1
            return
        is_invalid = error is not None and error.code in NOT_AS_ASKED
        if is_invalid and self.num_invalid < self._max_invalid:
            self.num_invalid += 1
            return
        effort = Effort(self.question.model, tuple(self._answers))
        self.reply = Reply(value, error, effort)
