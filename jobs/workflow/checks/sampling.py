"""How the tokens of answers are chosen, checked: a step's own sampling, over that of all steps."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ....engine.sampling_params import InvalidSampling, SamplingParams
from ..expressions.errors import nearest
from .draft import place_of
from .step import StepCheck, is_one_expression

MAX_TOKENS = 10_000_000  # longer than any model's context
_FORM = "structured_outputs"
_NOT_HERE = {
    "n": "how many samples there are is said by the step's own `n`",
    "logprobs": "it would not be landed; leave it out",
    "prompt_logprobs": "it would not be landed; leave it out",
}


def checked_sampling(
    check: StepCheck, own: Mapping[str, Any], of_all: Mapping[str, Any], *, has_form: bool
) -> dict[str, Any]:
    """Return what holds for a step; `{{ params.x }}` is filled in.

    With `has_form` the step itself says how its answers are to look.
    """
    if has_form and _FORM in own:
        check.tell(f"sampling.{_FORM}", "the step gives another form for the answer")
    merged = {**of_all, **own}
    if has_form:
        merged.pop(_FORM, None)
    sampling: dict[str, Any] = {}
    for name, value in merged.items():
        place = _place(check, name, own)
        if isinstance(value, str) and is_one_expression(value):
            value = check.constant_at(place, value)
            if value is None:
                continue  # it has been asked for, or is not known yet
        reason = _reason_against(name, value)
        if reason is None:
            sampling[name] = value
        else:
            check.problems.add(place, reason)
    _check_values(check, sampling, own)
    return sampling


def _place(check: StepCheck, name: str, own: Mapping[str, Any]) -> str:
    """Say where a parameter stands: in the step, or in what holds for all."""
    step = place_of(check.spec.id) if name in own else "defaults"
    return f"{step}.sampling.{name[:40]}"


def _reason_against(name: str, value: Any) -> str | None:
    if name in _NOT_HERE:
        return _NOT_HERE[name]
    known = {each.name for each in fields(SamplingParams)} - _NOT_HERE.keys()
    if name not in known:
        return f"there is no such parameter{nearest(name, known)}"
    if name in ("max_tokens", "min_tokens") and isinstance(value, int) and value > MAX_TOKENS:
        return f"must be at most {MAX_TOKENS}, got {value}"
    return None


def _check_values(check: StepCheck, sampling: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Tell of every value that is wrong: one after the other, since each hides the next."""
    left = dict(sampling)
    while left:
        try:
            SamplingParams.from_mapping({"max_tokens": None, **left})
            return
        except InvalidSampling as error:
            check.problems.add(_place(check, error.param, own), str(error))
            if left.pop(error.param, None) is None:
                return
