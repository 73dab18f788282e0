"""The templates of a step that asks: which columns they read, and what they say about a row."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from ..computing.evaluation import render, template
from ..computing.ledger import RowFailed
from ..plan import Plan, PlannedStep
from ..spec import Embed, Generate, Judge, Reduce
from .tries import Question

Asking: TypeAlias = Generate | Judge | Embed | Reduce


class Prompts:
    """Puts rows in words.

    Attributes:
        columns: the columns of a row that the templates read.
    """

    def __init__(self, plan: Plan, step: PlannedStep, spec: Asking) -> None:
        self._spec = spec
        self._models = step.models
        self._model = spec.model or plan.defaults.model or step.models[0]
        texts = [*_texts(spec), self._model]
        self.columns = frozenset(name for text in texts for name in template(text).columns)

    def question(self, key: str, scope: Mapping[str, Any], postscript: str = "") -> Question:
        """Ask about what a scope holds; a postscript stands behind the last words.

        Raises:
            RowFailed: a template cannot be filled in.
        """
        return Question(key, self._model_for(scope), self._said(scope, postscript))

    def _said(self, scope: Mapping[str, Any], postscript: str) -> Mapping[str, Any]:
        spec = self._spec
        if isinstance(spec, Embed):
            said: dict[str, Any] = {"input": render(spec.text, scope)}
            return said if spec.dimensions is None else {**said, "dimensions": spec.dimensions}
        if spec.messages is None:
            return {"prompt": render(spec.prompt or "", scope) + postscript}
        messages = [
            {"role": message.role, "content": render(message.content, scope)}
            for message in spec.messages
        ]
        if postscript:
            messages[-1]["content"] += postscript
        return {"messages": messages}

    def _model_for(self, scope: Mapping[str, Any]) -> str:
        """Name the model that a row is to be asked of."""
        name = render(self._model, scope) if "{" in self._model else self._model
        if name in self._models:
            return name
        known = ", ".join(self._models)[:200]
        raise RowFailed.because(
            "invalid_request", f"the model must be one of {known}, got {name[:80]!r}"
        )


def _texts(spec: Asking) -> list[str]:
    if isinstance(spec, Embed):
        return [spec.text]
    if spec.messages is not None:
        return [message.content for message in spec.messages]
    return [spec.prompt or ""]
