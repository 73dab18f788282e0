"""What a checked workflow does that it may do, and is hardly meant to. Knows a plan, no file."""

from collections.abc import Iterator, Mapping

from ..jobs.templates import Template, TemplateError
from ..jobs.workflow.plan import Plan, PlannedStep
from ..jobs.workflow.spec import Embed, Generate, Judge, Reduce

_NAMES = frozenset({"row", "rows", "params"})


def doubts_about(plan: Plan, contexts: Mapping[str, int | None]) -> Iterator[str]:
    """Yield what whoever wrote it may not have seen.

    `contexts` are models with the tokens that a prompt and its answer share, where that is known.
    """
    for step in plan.steps:
        if step.is_internal:
            continue
        if _is_one_prompt(step):
            yield f"steps.{step.id} names no column: all of its rows get the same prompt"
        max_tokens = (step.sampling or {}).get("max_tokens")
        if not isinstance(max_tokens, int):
            continue
        for model in step.models:
            window = contexts.get(model)
            if window is not None and max_tokens >= window:
                yield (
                    f"steps.{step.id}.sampling.max_tokens={max_tokens} leaves no room for a "
                    f"prompt: the context of {model!r}, which it shares with its answer, is "
                    f"{window} tokens"
                )


def _is_one_prompt(step: PlannedStep) -> bool:
    """Whether the templates of a step read nothing but what is the same for all rows."""
    texts = _texts_of(step)
    try:
        paths = {path for text in texts for path in Template.compile(text, _NAMES).paths}
    except TemplateError:  # over other names, which are of rows
        return False
    return bool(texts) and all(path[0] == "params" for path in paths)


def _texts_of(step: PlannedStep) -> list[str]:
    match step.spec:
        case Embed(text=text):
            return [text]
        case Generate() | Judge() | Reduce() as spec if spec.prompt is not None:
            return [spec.prompt]
        case Generate() | Judge() | Reduce() as spec:
            return [message.content for message in spec.messages or ()]
    return []
