"""Which models a specification asks, as far as it says so by itself: whoever starts a stack for it
wants to know beforehand. Knows the names of keys, not their meaning."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_FIELD = re.compile(r"\{\{\s*(row|params)\.(\w+)\s*\}\}")
_ASKING = frozenset({"generate", "judge", "embed"})


def with_model(document: Mapping[str, Any], served: Collection[str]) -> Mapping[str, Any]:
    """Name the one model that is served, where a step that asks is left without."""
    defaults, steps = document.get("defaults", {}), document.get("steps")
    if not isinstance(defaults, dict) or not isinstance(steps, list) or defaults.get("model"):
        return document
    if all(not _asks(step) or step.get("model") for step in steps if isinstance(step, dict)):
        return document
    if len(served) != 1:
        return document  # the check tells which steps are without one
    return {**document, "defaults": {**defaults, "model": next(iter(served))}}


def models_of(document: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Name the models: those written down, and those that params and `cross` lists choose from."""
    steps = [step for step in document.get("steps", ()) if isinstance(step, Mapping)]
    values = {**_mapping(document.get("params")), **params}
    crossed: dict[str, Any] = {}
    for step in steps:
        crossed |= _mapping(step.get("cross"))
    said = [_mapping(document.get("defaults")).get("model"), *(step.get("model") for step in steps)]
    found: dict[str, None] = {}  # in order, once each
    for model in said:
        found |= dict.fromkeys(_chosen(model, values, crossed))
    return list(found)


def _mapping(said: Any) -> Mapping[str, Any]:
    """Take what should be a mapping; what is none, the check tells of."""
    return said if isinstance(said, Mapping) else {}


def _asks(step: Mapping[str, Any]) -> bool:
    kind = step.get("type")
    is_asking_reduce = kind == "reduce" and bool(step.get("prompt") or step.get("messages"))
    return kind in _ASKING or is_asking_reduce


def _chosen(model: Any, params: Mapping[str, Any], crossed: Mapping[str, Any]) -> Iterator[str]:
    match model:
        case list():
            for each in model:
                yield from _chosen(each, params, {})
        case str() if (field := _FIELD.fullmatch(model.strip())) is not None:
            place, name = field.groups()
            source = params if place == "params" else crossed
            yield from _chosen(source.get(name), params, {})
        case str() if "{" not in model:
            yield model
