"""What steps may use beside their rows: tokenizers, and operations that the operator registered.

A workflow never brings code. An operation is named in PENSTOCK_WORKFLOW_OPS, and imported by the
worker that is told to.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

from ..settings import InvalidSetting
from .computing.ledger import RowFailed
from .computing.splitting import TokenEnds
from .plan import Plan

Operation: TypeAlias = Callable[[Mapping[str, Any]], Any]
Tokens: TypeAlias = Callable[[str, str], Sequence[int]]

_SETTING = "PENSTOCK_WORKFLOW_OPS"

logger = logging.getLogger(__name__)


class InvalidOperation(InvalidSetting):
    """An operation that was to be registered cannot be; the message says why."""


class MissingTool(RuntimeError):
    """A step needs what this process does not have; no row of it can be computed here."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What is at hand in this process.

    `tokens` takes a text and the name of a model, and says at which character each token ends.
    """

    tokens: Tokens | None = None
    operations: Mapping[str, Operation] = field(default_factory=dict)

    def token_ends(self, plan: Plan) -> TokenEnds:
        """Return the tokenizer by which texts of a workflow are cut: its default model's.

        Raises:
            MissingTool: there is none.
        """
        model = token_model(plan)
        tokens = self.tokens
        if tokens is None or model is None:
            what = "no tokenizer is at hand here" if model else "the workflow names no model"
            raise MissingTool(f"{what}, so tokens cannot be counted")
        return lambda text: tokens(text, model)

    def perform(self, name: str, values: Mapping[str, Any]) -> Any:
        """Apply an operation to a row's columns; returns plain data.

        Raises:
            MissingTool: nobody has registered it.
            RowFailed: it fails, or returns what is no data.
        """
        if name not in self.operations:
            known = ", ".join(sorted(self.operations)) or "none"
            raise MissingTool(
                f"no operation {name!r} is registered here; known: {known}. "
                f"The operator of the workers names them in {_SETTING}"
            )
        try:
            return json.loads(json.dumps(self.operations[name](dict(values))))
        except Exception as error:  # whatever an operation does, only this row fails
            message = f"{name}: {type(error).__name__}: {error}"[:500]
            raise RowFailed.because("operation_error", message) from None


NO_TOOLS = Tools()


def token_model(plan: Plan) -> str | None:
    """Name the model whose tokens count: the default, or the first that is asked."""
    asked = (model for step in plan.steps for model in step.models)
    return plan.defaults.model or next(asked, None)


def read_operations(entries: Sequence[str]) -> Mapping[str, Operation]:
    """Import operations that are written as `name=module:function`.

    Raises:
        InvalidOperation: one cannot be imported, or is written in another way.
    """
    return dict(_imported(entry) for entry in entries)


def usable_operations(entries: Sequence[str]) -> Mapping[str, Operation]:
    """Import those that can be; steps that name another one find that it is missing."""
    found: dict[str, Operation] = {}
    for entry in entries:
        try:
            found.update(read_operations([entry]))
        except InvalidOperation as error:
            logger.error("%s", error)
    return found


def _imported(entry: str) -> tuple[str, Operation]:
    name, _, target = entry.partition("=")
    module, _, function = target.partition(":")
    if not (name.isidentifier() and module and function.isidentifier()):
        raise InvalidOperation(f"{_SETTING}: write name=module:function, got {entry!r}")
    try:
        found = getattr(import_module(module), function)
    except Exception as error:  # whatever a module does when it is imported
        what = f"{entry!r} cannot be imported here: {type(error).__name__}: {error}"
        raise InvalidOperation(f"{_SETTING}: {what}") from error
    if not callable(found):
        raise InvalidOperation(f"{_SETTING}: what {entry!r} names is no function")
    return name, found
