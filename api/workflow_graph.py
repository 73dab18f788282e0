"""The graph of a workflow, drawn: as text for a terminal, as Mermaid for a page.

Knows how a specification is written, not what it means: one that cannot run can be drawn as well.

    inputs.questions
    candidate  generate, n: 5
    ├─ best  reduce by parent
    └─ all  dedupe
"""

from collections.abc import Iterator, Mapping
from typing import Any

_INPUT = "inputs."
_SHORT = 40  # characters of what a step says


def tree_lines(document: Mapping[str, Any]) -> list[str]:
    """Draw a workflow from its inputs down; a step that takes several rows stands under the first.

    What one step alone takes, stands right below; only a fork is set in.
    """
    followers: dict[str, list[Mapping[str, Any]]] = {}
    sources = _sources(document)
    for step, names in sources:
        followers.setdefault(names[0] if names else "", []).append(step)
    others = {str(step.get("id")): names[1:] for step, names in sources}
    drawn: set[str] = set()

    def below(name: str, indent: str) -> Iterator[str]:
        steps = [step for step in followers.get(name, ()) if str(step.get("id")) not in drawn]
        drawn.update(str(step.get("id")) for step in steps)
        for number, step in enumerate(steps, start=1):
            bullet, deeper = ("├─ ", "│  ") if number < len(steps) else ("└─ ", "   ")
            if len(steps) == 1:
                bullet = deeper = ""
            step_id = str(step.get("id"))
            yield f"{indent}{bullet}{_label(step, others[step_id])}"
            yield from below(step_id, indent + deeper)

    lines: list[str] = []
    for name in document.get("inputs") or {}:
        lines += [f"{_INPUT}{name}", *below(f"{_INPUT}{name}", "")]
    for step, names in sources:  # of a source that there is not, or in a circle
        if (step_id := str(step.get("id"))) not in drawn:
            drawn.add(step_id)
            lines += [f"{', '.join(names) or '?'} ?", _label(step, ()), *below(step_id, "")]
    return lines


def mermaid(document: Mapping[str, Any]) -> str:
    """Draw a workflow as a Mermaid flowchart."""
    names = [f"{_INPUT}{name}" for name in document.get("inputs") or {}]
    places = {name: f"i{number}" for number, name in enumerate(names)}
    lines = ["flowchart TD"]
    for name, place in places.items():
        lines.append(f"    {place}[({_quoted(name.removeprefix(_INPUT))})]")
    for number, (step, sources) in enumerate(_sources(document)):
        place = f"s{number}"
        label = f"{step.get('id')}: {_said(step)}"
        lines.append(f"    {place}[{_quoted(label)}]")
        lines += [f"    {places[source]} --> {place}" for source in sources if source in places]
        places.setdefault(str(step.get("id")), place)
    return "\n".join(lines)


def _sources(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """Tell for each step whose rows it takes; without a word, those of the step before it."""
    inputs = [f"{_INPUT}{name}" for name in document.get("inputs") or {}]
    before = inputs[0] if inputs else ""
    found: list[tuple[Mapping[str, Any], tuple[str, ...]]] = []
    for step in document.get("steps") or ():
        given = step.get("from", before)
        names = given if isinstance(given, list) else [given]
        known = [f"{_INPUT}{name}" if f"{_INPUT}{name}" in inputs else str(name) for name in names]
        found.append((step, tuple(filter(None, known))))
        before = str(step.get("id"))
    return found


def _label(step: Mapping[str, Any], others: tuple[str, ...]) -> str:
    beside = f", with {', '.join(others)}" if others else ""
    return f"{step.get('id')}  {_said(step)}{beside}"


def _said(step: Mapping[str, Any]) -> str:
    """Say what a step does, in a few words of its own."""
    kind = str(step.get("type"))
    told = [f"{name}: {step[name]}" for name in ("n", "model", "where", "size") if step.get(name)]
    if kind == "reduce":
        group_by = step.get("group_by", "parent")
        kind += f" by {', '.join(map(str, group_by)) if isinstance(group_by, list) else group_by}"
    return ", ".join([kind, *map(_shortened, told)])


def _shortened(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _quoted(text: str) -> str:
    """Quote a label: Mermaid reads `#quot;` for a quote, and nothing else of what stands in one."""
    return '"' + text.replace("#", "#35;").replace('"', "#quot;").replace("\n", " ") + '"'
