"""Workflows made at random, all of which can run: the strategy behind `test_random_graphs`."""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from penstock.jobs.workflow.plan import ColumnKind

INPUT_COLUMNS: dict[str, ColumnKind] = {"n": "int64", "j": "json", "w": "string", "l": "json"}
MODEL = "m"


@dataclass(frozen=True)
class Flow:
    """Rows that a further step may take: what of them is a number, a text, a list."""

    name: str
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    parent: "Flow | None" = None  # whose children they are
    has_order: bool = True  # that is the same whatever the shards
    width: int = 1


@dataclass
class Graph:
    """A workflow in the making."""

    draw: Any
    steps: list[dict[str, Any]] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)

    def one(self, *of: Any) -> Any:
        return self.draw(st.sampled_from(of))

    def maybe(self) -> bool:
        return self.draw(st.booleans())

    def add(self, flow: Flow, source: Flow | list[str], **fields: Any) -> None:
        where = source.name if isinstance(source, Flow) else source
        self.steps.append({"id": flow.name, "from": where, **fields})
        self.flows.append(flow)


@st.composite
def workflows(draw: Any) -> dict[str, Any]:
    """Draw a workflow over one input or two."""
    graph = Graph(draw)
    inputs = ["a", "b"][: draw(st.integers(1, 2))]
    graph.flows = [
        Flow(f"inputs.{name}", ("row.n", "row.j"), ("row.w",), ("row.l",)) for name in inputs
    ]
    for index in range(draw(st.integers(2, 8))):
        _add_step(graph, f"s{index}")
    return {
        "name": "random",
        "inputs": {name: {"columns": INPUT_COLUMNS} for name in inputs},
        "params": {"two": 2},
        "defaults": {
            "model": MODEL,
            "on_error": graph.one("keep", "keep", "drop", "fail"),
            "retries": {"transient": draw(st.integers(0, 2))},
        },
        "steps": graph.steps,
        "output": {"from": graph.one(*(step["id"] for step in graph.steps[-2:]))},
    }


def _add_step(graph: Graph, name: str) -> None:
    flow = graph.one(graph.flows[-1], graph.flows[-1], *graph.flows)
    ways = [_map, _filter, _generate, _document, _judge, _judge, _sample]
    if flow.width <= 12:
        ways += [_samples, _samples, _expand, _expand]
    if flow.parent is not None:
        ways += [_reduce, _reduce, _reduce, _merge, _merge, _merge]
    if flow.has_order:
        ways += [_dedupe, _dedupe, _limit, _group, _group]
    if len(graph.flows) > 1:
        ways += [_join, _join, _join, _concat]
    way = graph.one(*ways)
    way(graph, flow, name)
    if graph.flows[-1].name != name:  # it needs what these rows do not have
        _map(graph, flow, name)


def _number(graph: Graph, flow: Flow) -> str:
    return graph.one("1", "params.two", *flow.numbers, *flow.numbers)


def _own_number(graph: Graph, flow: Flow) -> str:
    """Choose a number that siblings do not have in common."""
    common = flow.parent.numbers if flow.parent is not None else ()
    return graph.one(
        *(number for number in flow.numbers if number not in common), _number(graph, flow)
    )


def _texts(flow: Flow) -> tuple[str, ...]:
    return flow.texts or ("'red'",)


def _any(flow: Flow) -> tuple[str, ...]:
    return (*_texts(flow), *flow.numbers)


def _condition(graph: Graph, flow: Flow) -> str:
    number = _number(graph, flow)
    text = graph.one(*flow.texts, repr("red"))
    return graph.one(
        f"{number} >= 2",
        f"{number} != {_number(graph, flow)}",
        f"({number} + 1) % 2 == 0",
        f"{text} == '{'first' if text.endswith('.winner') else 'red'}'",
        f"not ({number} > 1)",
        "row.j" if "row.j" in flow.numbers else "true",
    )


def _words(graph: Graph, flow: Flow) -> str:
    of = graph.one(*flow.texts, *flow.numbers, "params.two")
    return graph.one(f"say {{{{ {of} }}}}", f"say {{{{ {of} | default('-', true) }}}}")


def _policy(graph: Graph, default: Any) -> dict[str, Any]:
    policy = graph.one(None, None, "keep", "drop", "default")
    if policy is None:
        return {}
    return {"on_error": policy, **({"default": default} if policy == "default" else {})}


def _retries(graph: Graph) -> dict[str, Any]:
    if not graph.maybe():
        return {}
    return {"retries": {"transient": 1, "invalid_output": graph.one(0, 1, 2)}}


def _map(graph: Graph, flow: Flow, name: str) -> None:
    number = _number(graph, flow)
    given = {
        "v": graph.one(f"{number} + 1", f"{number} * 2 - 3", f"coalesce({number}, 4)"),
        "t": graph.one(*flow.texts, "'red'"),
    }
    made = replace(
        flow,
        name=name,
        numbers=(*flow.numbers, f"row.{name}.v"),
        texts=(*flow.texts, f"row.{name}.t"),
    )
    graph.add(made, flow, type="map", set=given, **_policy(graph, {"v": 1, "t": "x"}))


def _filter(graph: Graph, flow: Flow, name: str) -> None:
    where = _condition(graph, flow)
    graph.add(replace(flow, name=name), flow, type="filter", where=where, **_policy(graph, False))


def _sample(graph: Graph, flow: Flow, name: str) -> None:
    much = graph.one({"fraction": 0.6}, {"fraction": 1.0}, {"size": 3}, {"size": 50})
    graph.add(replace(flow, name=name), flow, type="sample", seed=graph.one(0, 1), **much)


def _limit(graph: Graph, flow: Flow, name: str) -> None:
    graph.add(replace(flow, name=name), flow, type="limit", size=graph.one(4, 50))


def _dedupe(graph: Graph, flow: Flow, name: str) -> None:
    of = graph.one(*_any(flow))
    key = graph.one(f"{{{{ {of} }}}}", f"{{{{ {of} | default('none', true) }}}}")
    if "row" in key:
        graph.add(replace(flow, name=name), flow, type="dedupe", key=key, **_policy(graph, 1))


def _generate(graph: Graph, flow: Flow, name: str) -> None:
    form = graph.one({}, {"choices": ["red", "blue"]})
    made = replace(flow, name=name, texts=(*flow.texts, f"row.{name}"))
    graph.add(
        *(made, flow),
        type="generate",
        prompt=_words(graph, flow),
        **(form | _retries(graph) | _policy(graph, "red")),
    )


def _document(graph: Graph, flow: Flow, name: str) -> None:
    made = replace(flow, name=name, numbers=(*flow.numbers, f"row.{name}.score"))
    graph.add(
        *(made, flow),
        type="generate",
        prompt=_words(graph, flow),
        schema={"score": "int"},
        **(_retries(graph) | _policy(graph, {"score": 1})),
    )


def _judge(graph: Graph, flow: Flow, name: str) -> None:
    asked = {"type": "judge", "prompt": _words(graph, flow), **_retries(graph)}
    match graph.one("schema", "reward", "pairwise"):
        case "schema":
            made = replace(flow, name=name, numbers=(*flow.numbers, f"row.{name}.score"))
            asked |= {"schema": {"score": "int"}, **_policy(graph, {"score": 1})}
        case "reward":
            made = replace(flow, name=name, numbers=(*flow.numbers, f"row.{name}.value"))
            asked |= {"mode": "reward", **_policy(graph, {"value": 1.0})}
        case _:
            made = replace(flow, name=name, texts=(*flow.texts, f"row.{name}.winner"))
            pair = [graph.one(*_any(flow)) for _ in range(2)]
            asked |= {"mode": "pairwise", "candidates": pair}
            asked |= _policy(graph, {"winner": "tie"})
    graph.add(made, flow, **asked)


def _samples(graph: Graph, flow: Flow, name: str) -> None:
    number = graph.one(2, 3, "{{ params.two }}")
    asked: dict[str, Any] = {"prompt": _words(graph, flow), "n": number, **_retries(graph)}
    made = replace(flow, name=name, parent=flow, width=flow.width * 3)
    if graph.maybe():
        asked |= {"schema": {"score": "int"}, **_policy(graph, {"score": 1})}
        made = replace(made, numbers=(*flow.numbers, f"row.{name}.score"))
        until = f"row.{name}.score >= 3"
    else:
        asked |= _policy(graph, "red")
        made = replace(made, texts=(*flow.texts, f"row.{name}"))
        until = f"row.{name} == 'red'"
    if graph.maybe():
        asked |= {"until": until, "wave": graph.one(1, 2)}
    graph.add(made, flow, type="generate", **asked)


def _expand(graph: Graph, flow: Flow, name: str) -> None:
    made = replace(flow, name=name, parent=flow, width=flow.width * 3)
    numbers, texts = flow.numbers, flow.texts
    match graph.one("n", "explode", "split", "cross"):
        case "n":
            way: dict[str, Any] = {"n": graph.one(1, 3, "{{ params.two }}")}
            made = replace(made, numbers=(*numbers, f"row.{name}.index"))
            way |= _policy(graph, {"index": 0})
        case "explode" if flow.lists:
            way = {"explode": graph.one(*flow.lists), "max": graph.one(1, 2, 5)}
            made = replace(made, numbers=(*numbers, f"row.{name}.index"))
            way |= _policy(graph, {"index": 0, "value": 1})
        case "split":
            split = {"field": graph.one(*_texts(flow)), "by": "words", "size": 1}
            way = {"split": split, "max": 100}  # with more, two of them are as wide as may be
            made = replace(made, texts=(*texts, f"row.{name}.text"))
            way |= _policy(graph, {"index": 0, "text": "red", "count": 1})
        case _:
            way = {"cross": {f"{name}x": [1, 2], f"{name}y": ["red", "green"]}}
            made = replace(made, numbers=(*numbers, f"row.{name}x"), texts=(*texts, f"row.{name}y"))
    graph.add(made, flow, type="expand", **way)


def _aggregates(graph: Graph, flow: Flow) -> dict[str, str]:
    number = _own_number(graph, flow)
    return {
        "c": graph.one("count()", f"sum({number})", f"max({number} + 1) * 2"),
        "t": graph.one(*(f"first({text})" for text in _texts(flow))),
        "l": graph.one(f"list({number})", f"majority({number})"),
    }


def _reduced(flow: Flow, name: str) -> Flow:
    return replace(
        flow,
        name=name,
        numbers=(*flow.numbers, f"row.{name}.c"),
        texts=(*flow.texts, f"row.{name}.t"),
    )


def _reduce(graph: Graph, flow: Flow, name: str) -> None:
    assert flow.parent is not None
    fields: dict[str, Any] = {"type": "reduce"}
    if graph.maybe():
        fields["order_by"] = _own_number(graph, flow)
    if graph.maybe():
        made = replace(_reduced(flow.parent, name), has_order=flow.has_order)
        fields |= {"agg": _aggregates(graph, flow), **_policy(graph, {"c": 1, "t": "x", "l": []})}
    else:
        made = replace(flow, name=name)
        way = graph.one("max", "min", "first")
        of = _condition(graph, flow) if way == "first" else _own_number(graph, flow)
        fields |= {"pick": {way: of}, **_policy(graph, 1)}
    graph.add(made, flow, **fields)


def _merge(graph: Graph, flow: Flow, name: str) -> None:
    """Reduce by a prompt, over one column that a model may have written."""
    assert flow.parent is not None
    columns = [text for text in flow.texts if text.count(".") == 1]
    if not columns:
        return
    column = graph.one(*columns).removeprefix("row.")
    safe = graph.one("| default('-', true) ", "")
    loop = f"{{% for r in rows %}}{{{{ r.{column} {safe}}}}} {{% endfor %}}"
    fields: dict[str, Any] = {"type": "reduce", "prompt": f"merge {loop}", **_retries(graph)}
    is_own = f"row.{column}" not in flow.parent.texts  # merged answers take the place of a column
    if is_own and graph.maybe():
        fields["fold"] = {"max_rows": 2}
    made = replace(
        flow.parent,
        name=name,
        texts=(*flow.parent.texts, f"row.{name}"),
        has_order=flow.has_order,
    )
    graph.add(made, flow, **fields, **_policy(graph, "red"))


def _group(graph: Graph, flow: Flow, name: str) -> None:
    """Reduce by a column of its own."""
    plain = [path for path in (*flow.numbers, *flow.texts) if path.count(".") == 1]
    if not plain:
        return
    path = graph.one(*plain)
    base = Flow(
        name,
        tuple(each for each in flow.numbers if each == path),
        tuple(each for each in flow.texts if each == path),
        width=flow.width,
    )
    fields: dict[str, Any] = {"type": "reduce", "group_by": [path.removeprefix("row.")]}
    if graph.maybe():
        fields["order_by"] = _number(graph, flow)
    graph.add(_reduced(base, name), flow, **fields, agg=_aggregates(graph, flow))


def _join(graph: Graph, flow: Flow, name: str) -> None:
    others = [each for each in graph.flows if each.has_order and each is not flow]
    if not others:
        return
    other = graph.one(*others)
    how = graph.one("inner", "left", "semi", "anti")
    sources = [flow.name, other.name]
    pairs = [
        (mine, theirs)
        for kind in ("numbers", "texts")
        for mine in getattr(flow, kind)
        for theirs in getattr(other, kind)
        if mine.count(".") == theirs.count(".") == 1
    ]
    if not pairs or graph.maybe():
        graph.add(replace(flow, name=name), sources, type="join", how=how)
        return
    mine, theirs = (path.removeprefix("row.") for path in graph.one(*pairs))
    made = replace(flow, name=name)
    if how in ("inner", "left"):
        made = replace(made, parent=flow, width=flow.width * 4)
    graph.add(
        *(made, sources),
        type="join",
        how=how,
        on={mine: theirs},
        **({"max": graph.one(1, 4), **_policy(graph, 1)} if how in ("inner", "left") else {}),
    )


def _concat(graph: Graph, flow: Flow, name: str) -> None:
    other = graph.one(*(each for each in graph.flows if each is not flow))
    made = Flow(
        name,
        tuple(each for each in flow.numbers if each in other.numbers),
        tuple(each for each in flow.texts if each in other.texts),
        tuple(each for each in flow.lists if each in other.lists),
        has_order=False,
        width=flow.width + other.width,
    )
    graph.add(replace(made, parent=made), [flow.name, other.name], type="concat")
