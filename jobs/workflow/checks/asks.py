"""What a step asks of models, checked: which models, in what words, and how answers are to look."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from ....engine.sampling_params import InvalidSampling, StructuredOutputs
from ..expressions.errors import nearest, shown
from ..expressions.types import ANY, FLOAT, INT, TEXT, Type, joined
from ..spec import Defaults, Embed, Generate, Judge, Reduce
from .draft import place_of
from .sampling import checked_sampling
from .schemas import InvalidSchema, answer_schema, document_type
from .step import StepCheck, is_one_expression

Asking: TypeAlias = Generate | Judge | Embed | Reduce
Schemas: TypeAlias = Mapping[str, Mapping[str, Any] | None]  # None: named, but of no use

MAX_MODEL_CHARS = 200
META_TYPE = Type.object_of(
    {
        "status": Type.one_of(("succeeded", "failed", "skipped")),
        "finish_reason": TEXT,
        "model": TEXT,
        "prompt_tokens": INT,
        "completion_tokens": INT,
        "cached_tokens": INT,
        "attempts": INT,
        "error_code": TEXT,
    }
)
_SCORE = {"score": "int", "reason": "str"}
_VERDICTS = ("first", "second", "tie")
_FORMS = ("schema", "schema_ref", "choices", "regex")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was found out about a step that asks.

    Attributes:
        spec: the step, with its model written out if it is only one.
        value: the type of what it adds.
    """

    spec: Asking
    models: tuple[str, ...]
    sampling: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    value: Type


def check_asking(
    check: StepCheck,
    spec: Asking,
    defaults: Defaults,
    schemas: Schemas,
    row: Type,
    **rows: Type,
) -> Asked:
    """Check a step that asks about a row; `rows` are those of a group, where it is one's."""
    models = _models(check, spec.model, defaults.model, row)
    if isinstance(spec, Embed):
        check.template("text", spec.text, check.scope(row))
        return Asked(_naming(spec, models), models, {}, None, Type("vector", item=FLOAT))
    _check_words(check, spec, check.scope(row, **rows))
    schema = _schema(check, spec, schemas)
    _check_form(check, spec)
    has_form = any(getattr(spec, form, None) is not None for form in _FORMS) or schema is not None
    sampling = checked_sampling(check, spec.sampling, defaults.sampling, has_form=has_form)
    value = _value(check, spec, schema)
    if schema is None and spec.schema_ref in schemas:  # of no use, as has been told
        value = ANY
    if check.is_default:
        value = joined([value, Type.of_value(spec.default)])
    return Asked(_naming(spec, models), models, sampling, schema, value)


def _naming(spec: Asking, models: tuple[str, ...]) -> Asking:
    return msgspec.structs.replace(spec, model=models[0]) if len(models) == 1 else spec


def _models(check: StepCheck, model: str | None, default: str | None, row: Type) -> tuple[str, ...]:
    """Return all models that a step may ask."""
    text = model if model is not None else default
    if text is None:
        known = f"; served: {', '.join(sorted(check.served))}" if check.served else ""
        check.tell("model", f"no model is named, neither here nor in `defaults`{known}")
        return ()
    if "{" not in text:
        return _checked_models(check, (text,))
    is_expression = is_one_expression(text)
    if not (is_expression and check.is_of_row(text)):
        name = (check.constant if is_expression else check.constant_text)("model", text)
        return () if name is None else _checked_models(check, (name,))
    expression, found = check.expression("model", text, row)
    if expression is None or check.template("model", text, check.scope(row)) is None:
        return ()
    if not found.values and found.kind == "any" and not check.flow.is_traced:
        return ()  # it may come from what is at fault before
    if not found.values:
        check.tell(
            "model",
            "which models it asks must be known before the run: name one, or take it from params, "
            "from a list in `cross`, or from `choices`",
        )
        return ()
    return _checked_models(check, found.values)


def _checked_models(check: StepCheck, names: tuple[Any, ...]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name.strip():
            check.tell("model", f"must be the name of a model, got {shown(name)}")
        elif len(name) > MAX_MODEL_CHARS or not name.isprintable():
            check.tell("model", f"{shown(name)} can be no model's name")
    return tuple(str(name) for name in names)


def _check_words(
    check: StepCheck, spec: Generate | Judge | Reduce, scope: Mapping[str, Type]
) -> None:
    is_pairwise = isinstance(spec, Judge) and spec.mode == "pairwise"
    if spec.prompt is not None and spec.messages is not None:
        check.tell("prompt", "there is a prompt as well as messages; keep one of them")
    elif spec.prompt is None and not spec.messages and not is_pairwise:
        check.tell("prompt", "there is neither a prompt nor messages")
    if spec.prompt is not None:
        check.template("prompt", spec.prompt, scope)
    for index, message in enumerate(spec.messages or ()):
        check.template(f"messages[{index}].content", message.content, scope)


def _schema(
    check: StepCheck, spec: Generate | Judge | Reduce, schemas: Schemas
) -> Mapping[str, Any] | None:
    """Return the schema that answers are held to, written out."""
    given = [form for form in _FORMS if getattr(spec, form, None) is not None]
    if len(given) > 1:
        check.tell(given[1], f"there is {' and '.join(given)}; an answer can have one form")
    if isinstance(spec, Judge) and spec.mode == "reward" and given:
        check.tell(given[0], "a reward is a number; it has no schema")
    if spec.schema_ref is not None:
        if spec.schema_ref not in schemas:
            hint = nearest(spec.schema_ref, schemas)
            check.tell("schema_ref", f"there is no schema {spec.schema_ref!r}{hint}")
        return schemas.get(spec.schema_ref)
    schema = spec.schema
    if schema is None and isinstance(spec, Judge) and spec.mode == "schema":
        schema = _SCORE
    if schema is None:
        return None
    try:
        return answer_schema(schema)
    except InvalidSchema as error:
        check.tell("schema", str(error))
        return None


def _check_form(check: StepCheck, spec: Generate | Judge | Reduce) -> None:
    if not isinstance(spec, Generate):
        return
    forms: Mapping[str, Any] = {"choices": spec.choices, "regex": spec.regex}
    for field, name in (("choices", "choice"), ("regex", "regex")):
        if forms[field] is not None:
            with check.problems.at(f"{place_of(spec.id)}.{field}", InvalidSampling):
                StructuredOutputs.from_mapping({name: forms[field]})


def _value(
    check: StepCheck, spec: Generate | Judge | Reduce, schema: Mapping[str, Any] | None
) -> Type:
    match spec:
        case Judge(mode="reward"):
            if spec.candidates is not None:
                check.tell("candidates", "they are compared in mode pairwise only")
            return Type.object_of({"value": FLOAT})
        case Judge(mode="pairwise"):
            return _pairwise(check, spec, schema)
        case Judge() if spec.candidates is not None:
            check.tell("candidates", "they are compared in mode pairwise only")
    if schema is not None:
        return document_type(schema)
    if isinstance(spec, Generate) and spec.choices:
        if len(set(spec.choices)) < len(spec.choices):
            check.tell("choices", "one of them is there twice")
        return Type.one_of(spec.choices)
    return TEXT


def _pairwise(check: StepCheck, spec: Judge, schema: Mapping[str, Any] | None) -> Type:
    row = check.flow.row_type
    if spec.candidates is None:
        check.tell("candidates", "two are compared: give two expressions, such as row.a and row.b")
    for index, candidate in enumerate(spec.candidates or ()):
        check.expression(f"candidates[{index}]", candidate, row)
    winner = Type.one_of(_VERDICTS)
    if schema is None:
        return Type.object_of({"winner": winner})
    document = document_type(schema)
    named = document.fields.get("winner")
    is_verdict = named is not None and named.values and set(named.values) <= set(_VERDICTS)
    if not is_verdict or "winner" not in schema.get("required", ()):
        check.tell("schema", "a verdict needs winner: enum[first,second,tie]")
    return Type.object_of({**document.fields, "winner": winner}, is_open=document.is_open)
