"""Which rows each step takes: from the step before it, or from those that it names."""

from collections.abc import Iterable, Mapping

from ..expressions.errors import nearest
from ..plan import INPUT
from ..spec import Concat, Join, Step, Workflow
from .draft import Draft, is_nameless, place_of
from .problems import Problems
from .step import is_name_free

MAX_SOURCES = 32


def sources_of(draft: Draft, problems: Problems) -> list[tuple[str, ...] | None]:
    """Return for each step the names of its sources; None where that is not clear."""
    workflow = draft.workflow
    ids = [step.id for step in workflow.steps]
    _check_ids(ids, problems)
    found: list[tuple[str, ...] | None] = []
    for index, step in enumerate(workflow.steps):
        where = f"{place_of(step.id)}.from"
        if index in draft.remnants and "from" in draft.remnants[index].lost:
            found.append(None)
            continue
        named = _named(step, workflow, index, where, problems)
        sources = [
            _source(name, step, workflow, ids[:index], where, problems) for name in named or ()
        ]
        known = tuple(source for source in sources if source is not None)
        is_clear = named is not None and len(known) == len(named)
        found.append(known if is_clear else None)
    return found


def _check_ids(ids: list[str], problems: Problems) -> None:
    for name in dict.fromkeys(ids):
        if ids.count(name) > 1:
            problems.add(f"steps.{name}.id", f"{ids.count(name)} steps have this id")
        if not is_name_free(name):
            problems.add(f"{place_of(name)}.id", f"the name {name!r} is kept for other uses")


def _named(
    step: Step, workflow: Workflow, index: int, where: str, problems: Problems
) -> tuple[str, ...] | None:
    """Return the names under which a step says where its rows are from, or its default."""
    given = step.from_
    wants_several = isinstance(step, Join | Concat)
    kind = type(step).__name__.lower()
    if given is None:
        if wants_several:
            problems.add(where, f"a {kind} must say whose rows it takes, such as [a, b]")
            return None
        if index:
            return (workflow.steps[index - 1].id,)
        if not workflow.inputs:
            problems.add("inputs", "the workflow declares none: write {rows: {type: dataset}}")
            return None
        if len(workflow.inputs) != 1:
            known = ", ".join(INPUT + name for name in workflow.inputs)
            problems.add(where, f"the first step must say which input it takes; there are: {known}")
            return None
        return (INPUT + next(iter(workflow.inputs)),)
    names = (given,) if isinstance(given, str) else given
    few, many = (2, 2) if isinstance(step, Join) else (2, MAX_SOURCES) if wants_several else (1, 1)
    if not few <= len(names) <= many:
        wants = f"{few}" if few == many else f"{few} to {many}"
        problems.add(where, f"a {kind} takes the rows of {wants} steps, got {len(names)}")
        return None
    return names


def _source(
    name: str,
    step: Step,
    workflow: Workflow,
    before: list[str],
    where: str,
    problems: Problems,
) -> str | None:
    """Find the step or the input that a name means; one that comes later is none."""
    if name in before:
        return name
    bare = name.removeprefix(INPUT)
    if bare in workflow.inputs:
        return INPUT + bare
    if name == step.id:
        problems.add(where, "a step cannot take its own rows")
    elif any(name == other.id for other in workflow.steps):
        cycle = _cycle(name, step.id, workflow)
        problems.add(where, cycle or f"step {name!r} comes later; put it before {step.id!r}")
    else:
        known = [*before, *(INPUT + each for each in workflow.inputs)]
        hint = nearest(name, known)
        if hint or not any(is_nameless(other.id) for other in workflow.steps):  # it may mean those
            hint = hint or f"; known: {', '.join(known)[:200] or 'none'}"
            problems.add(where, f"there is no step or input {name[:80]!r}{hint}")
    return None


def _cycle(start: str, end: str, workflow: Workflow) -> str | None:
    """Describe how the rows of a step come from those of another, in the end from its own."""
    takes: Mapping[str, Iterable[str]] = {
        step.id: (step.from_,) if isinstance(step.from_, str) else step.from_ or ()
        for step in workflow.steps
    }
    path, seen = [end, start], {start}
    while path[-1] != end:
        following = next((name for name in takes.get(path[-1], ()) if name not in seen), None)
        if following is None:
            return None
        seen.add(following)
        path.append(following)
    return f"the steps take rows of each other in a circle: {' <- '.join(path)}"
