"""What every step of a workflow over lists is made of: rows, values, faults, answers."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from penstock.jobs.templates import RenderError, Template
from penstock.jobs.workflow.expressions.expression import EvaluationError, Expression
from penstock.jobs.workflow.spec import Generate, Judge, Reduce, Step, Workflow

from .fake_model import Held, Said, say

NAMES = frozenset({"row", "params", "rows"})
expression = lru_cache(Expression.parse)
template = lru_cache(lambda text: Template.compile(text, NAMES))


@dataclass(frozen=True)
class R:
    """A row, with the one that it was made from."""

    id: str
    values: Mapping[str, Any]
    parent: "R | None" = None

    def with_(self, **added: Any) -> "R":
        return R(self.id, {**self.values, **added}, self.parent)

    def child(self, step: str, index: int, **added: Any) -> "R":
        return R(f"{self.id}/{step}#{index}", {**self.values, **added}, self)


class Bad(Exception):
    """A row fails, for a reason in a word."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Meaning:
    """What holds for all steps. `faults` are (step, row, reason)."""

    def __init__(self, workflow: Workflow, params: Mapping[str, Any]) -> None:
        self.workflow = workflow
        self.params = {**workflow.params, **params}
        self.faults: list[tuple[str, str, str]] = []

    def policy(self, step: Step) -> str:
        return step.on_error or self.workflow.defaults.on_error

    def failed(self, step: Step, r: R, code: str, made: Callable[[Any], R]) -> list[R]:
        self.faults.append((step.id, r.id, code))
        match self.policy(step):
            case "keep":
                return [made(None)]
            case "default":
                return [made(step.default)]
            case _:
                return []

    def eval(self, text: str, r: R) -> Any:
        try:
            scope = {"row": r.values, "params": self.params}
            return expression(text).evaluate(scope)
        except EvaluationError:
            raise Bad("expression_error") from None

    def number(self, n: int | str, r: R) -> int:
        return self.eval(n, r) if isinstance(n, str) else n

    def truth(self, text: str, r: R) -> bool:
        value = self.eval(text, r)
        if value is not None and not isinstance(value, bool):
            raise Bad("expression_error")
        return bool(value)

    def render(self, text: str, r: R, rows: Sequence[Mapping[str, Any]] = ()) -> str:
        try:
            scope = {"row": r.values, "params": self.params, "rows": list(rows)}
            return template(text).render_in(scope)
        except RenderError as error:
            raise Bad(error.code) from None

    def needs_failed(self, texts: Iterable[str], r: R) -> bool:
        for name in {name for text in texts for name in template(text).columns}:
            meta = r.values.get(f"{name}__meta") or {}
            if r.values.get(name) is None and meta.get("status") in ("failed", "skipped"):
                return True
        return False

    def settled(self, step: Step, r: R, outcome: Any) -> Iterable[R]:
        if not isinstance(outcome, Bad):
            return [self.answered(step, r, outcome, "succeeded", None)]
        return self.failed(
            step, r, outcome.code, lambda v: self.answered(step, r, v, "failed", outcome.code)
        )

    def answered(self, step: Step, r: R, value: Any, status: str, code: str | None) -> R:
        meta = {"status": status, "error_code": code}
        return r.with_(**{step.column: value, f"{step.column}__meta": meta})

    def attempt(self, step: Generate | Judge | Reduce, key: str, prompt: str) -> Any:
        """Ask as often as the retries allow; returns the value, or why there is none."""
        retries = step.retries or self.workflow.defaults.retries
        form, held = form_of(step)
        num_invalid = num_transient = number = 0
        while True:
            seed = seed_of(f"0/{step.id}/{key}~{num_invalid}")
            is_free = retries.invalid_output > 0 and num_invalid == 0
            said = say(prompt, seed, number, None if is_free else held)
            number += 1
            outcome = Bad(said.error) if said.error else read(said, form, held)
            if said.is_transient and num_transient < retries.transient:
                num_transient += 1
            elif (
                isinstance(outcome, Bad)
                and said.error is None
                and num_invalid < retries.invalid_output
            ):
                num_invalid += 1
            else:
                return outcome


def form_of(step: Generate | Judge | Reduce) -> tuple[str, Held]:
    """Return what an answer is read as, and what it may be where it is held to something."""
    if isinstance(step, Judge):
        match step.mode:
            case "pairwise":
                return "choice", ("first", "second", "tie")
            case "reward":
                return "reward", None
            case _:
                return "document", "document"
    if isinstance(step, Generate) and step.choices:
        return "choice", step.choices
    return ("document", "document") if step.schema else ("text", None)


def read(said: Said, form: str, held: Held) -> Any:
    """Read an answer; documents here are {"score": a whole number}."""
    match form:
        case "choice" if isinstance(held, tuple):
            return said.text if said.text in held else Bad("invalid_output")
        case "reward":
            found = re.search("[0-9]+", said.text)
            return {"value": float(found.group())} if found else Bad("invalid_output")
        case "document":
            try:
                value = json.loads(said.text)
            except ValueError:
                return Bad("invalid_output")
            return value if isinstance(value.get("score"), int) else Bad("schema_violation")
        case _:
            return said.text


def seed_of(source: str) -> int:
    return int.from_bytes(blake2b(source.encode(), digest_size=8).digest(), "little") >> 1
