"""The builder: it writes what YAML says, and says everything that a specification can hold."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from penstock import Workflow
from penstock.api import workflow_options as options
from penstock.api.client_errors import InvalidInput
from penstock.jobs.workflow import spec

EXAMPLES = sorted((Path(__file__).parents[1] / "workflows").glob("*.yaml"))

BEST_OF_8 = """
version: 1
name: best-of-8
description: the best of eight
inputs:
  questions: {type: dataset, columns: {question: string}}
params: {style: short}
defaults: {model: m, sampling: {temperature: 0.8}}
steps:
- id: answer
  type: generate
  from: inputs.questions
  prompt: "{{ row.question }} Be {{ params.style }}."
  n: 8
- {id: score, type: judge, mode: reward, prompt: "{{ row.answer }}", as: points}
- {id: best, type: reduce, group_by: parent, pick: {max: row.points.value}}
output: {from: best, select: [question, answer], sink: {type: parquet, uri: "s3://b/x"}}
"""


def best_of_8() -> Workflow:
    workflow = Workflow(
        "best-of-8",
        description="the best of eight",
        params={"style": "short"},
        defaults={"model": "m", "sampling": {"temperature": 0.8}},
    )
    best = (
        workflow.input("questions", {"question": "string"})
        .generate("answer", prompt="{{ row.question }} Be {{ params.style }}.", n=8)
        .judge("score", mode="reward", prompt="{{ row.answer }}", as_="points")
        .reduce("best", group_by="parent", pick={"max": "row.points.value"})
    )
    return workflow.output(best, select=["question", "answer"], sink="s3://b/x")


def test_the_builder_says_what_the_yaml_says() -> None:
    assert best_of_8() == Workflow.from_yaml(BEST_OF_8)
    assert best_of_8() != Workflow.from_yaml(BEST_OF_8.replace("n: 8", "n: 9"))


@pytest.mark.parametrize("name", ["x y", "", "x\n", "é", "x" * 65])
def test_a_name_that_is_none_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="a workflow's name is a letter or digit"):
        Workflow(name)
    assert Workflow.from_dict({"name": name, "steps": []}).name == name  # the server tells


def every_kind_of_step() -> Workflow:
    workflow = Workflow("all", schemas={"s": {"type": "object"}}, max_error_rate=0.5)
    left, right = workflow.input("left"), workflow.input("right")
    left.filter("kept", "row.a > 1", on_error="drop")
    other = right.map("fields", set={"x": "row.a + 1"}).dedupe("once", "{{ row.a }}")
    cells = workflow.rows("kept").join("both", other, on={"a": "b"}, how="left")
    cells = cells.expand("cell", cross={"m": ["p", "q"]}).sample("some", fraction=0.5, seed=3)
    texts = cells.generate("text", prompt="{{ row.a }}", schema_ref="s", retries={"transient": 1})
    texts.embed("vector", text="{{ row.a }}", dimensions=8).limit("few", 5)
    workflow.rows("few").concat("end", texts)
    return workflow


@pytest.mark.parametrize("workflow", [best_of_8(), every_kind_of_step()], ids=lambda w: w.name)
def test_every_form_gives_the_same_workflow(workflow: Workflow, tmp_path: Path) -> None:
    assert Workflow.from_yaml(workflow.to_yaml()) == workflow
    assert Workflow.from_yaml(workflow.to_json()) == workflow
    assert Workflow.from_dict(workflow.to_dict()) == workflow
    for name, text in (("w.yaml", workflow.to_yaml()), ("w.json", workflow.to_json())):
        (tmp_path / name).write_text(text)
        assert Workflow.load(tmp_path / name) == workflow
    msgspec.convert(workflow.to_dict(), spec.Workflow)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_survive_the_round_trip(path: Path) -> None:
    workflow = Workflow.load(path)
    assert Workflow.from_yaml(workflow.to_yaml()) == workflow
    msgspec.convert(workflow.to_dict(), spec.Workflow)


def test_an_edge_is_written_only_where_it_is_not_the_step_before() -> None:
    steps = every_kind_of_step().to_dict()["steps"]
    edges = {step["id"]: step.get("from") for step in steps}
    assert edges == {
        "kept": "inputs.left", "fields": "inputs.right", "once": None, "both": ["kept", "once"],
        "cell": None, "some": None, "text": None, "vector": None, "few": None,
        "end": ["few", "text"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("known", "step"),
    [
        (options.GenerateOptions, spec.Generate),
        (options.JudgeOptions, spec.Judge),
        (options.EmbedOptions, spec.Embed),
        (options.MapOptions, spec.Map),
        (options.ExpandOptions, spec.Expand),
        (options.ReduceOptions, spec.Reduce),
        (options.JoinOptions, spec.Join),
    ],
)
def test_the_builder_knows_every_field_of_the_specification(known: type, step: Any) -> None:
    names = {field.name for field in msgspec.structs.fields(step)}
    assert set(known.__annotations__) == names - {"id", "from_"}


def test_a_pydantic_model_is_its_schema() -> None:
    class Order(BaseModel):
        item: str

    workflow = Workflow("w")
    workflow.input("docs").generate("order", prompt="x", schema=Order)
    [step] = workflow.to_dict()["steps"]
    assert step["schema"] == Order.model_json_schema()


def test_what_is_given_away_is_a_copy() -> None:
    workflow = best_of_8()
    workflow.to_dict()["steps"].clear()
    assert workflow.steps == ["answer", "score", "best"]


def test_mistakes_are_named_where_they_are_made() -> None:
    workflow = Workflow("w")
    rows = workflow.input("docs")
    with pytest.raises(TypeError, match="unknown option 'promt' for step 'a'"):
        rows.generate("a", promt="x")  # pyright: ignore[reportCallIssue]  # the mistake
    with pytest.raises(ValueError, match="an input 'docs' already"):
        rows.limit("docs", 3)
    with pytest.raises(ValueError, match=r"no step 'nope'; there are inputs\.docs"):
        workflow.rows("nope")
    with pytest.raises(ValueError, match="rows of another workflow"):
        rows.join("j", Workflow("v").input("docs"))
    with pytest.raises(InvalidInput, match="step 'a', prompt must be plain data"):
        rows.generate("a", prompt=object())  # pyright: ignore[reportArgumentType]  # the mistake
    assert workflow.steps == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "must be a mapping with name and steps, got list"),
        ({"steps": []}, "no name"),
        ({"name": "x"}, "no steps"),
        ({"name": "x", "steps": ["a"]}, r"steps\[0\] must be a mapping with id and type, got 'a'"),
        ({"name": "x", "steps": [], "inputs": None}, "inputs must be a mapping, got None"),
        ({"name": "x", "steps": [{"id": "a", "n": float("nan")}]}, "plain data"),
        ({"name": "x", "steps": [{1: 2}]}, "a key must be a text"),
    ],
)
def test_what_is_no_specification_is_refused(document: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Workflow.from_dict(document)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*none\.yaml: No such file"):
        Workflow.load(tmp_path / "none.yaml")
    (tmp_path / "w.json").write_text('{"name": "a", "name": "b"}')
    with pytest.raises(InvalidInput, match="occurs twice"):
        Workflow.load(tmp_path / "w.json")


def test_building_loads_no_library() -> None:
    script = (
        "import sys; from penstock import Workflow; w = Workflow('w'); "
        "w.input('a').limit('b', 1); w.to_json(); "
        "new = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names); "
        "import json; print(json.dumps(sorted(new - {'penstock', '__main__'})))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    loaded = set(json.loads(result.stdout))
    assert {"yaml", "torch", "redis", "msgspec", "httpx2"} & loaded == set()


def forked() -> Workflow:
    workflow = Workflow("forked")
    answers = workflow.input("questions").generate("answer", prompt="{{ row.text }}", n=3)
    short = answers.filter("short", where="row.answer == '\"'")
    count = answers.reduce("count", group_by=["text"], agg={"n": "count()"})
    count.join("named", workflow.input("names"), on="text")
    short.limit("few", 3)
    return workflow


def test_a_workflow_is_drawn_as_text() -> None:
    assert forked().to_tree().splitlines() == [
        "inputs.questions",
        "answer  generate, n: 3",
        "├─ short  filter, where: row.answer == '\"'",
        "│  few  limit, size: 3",
        "└─ count  reduce by text",
        "   named  join, with inputs.names",
        "inputs.names",
    ]
    assert "row.answer == &#x27;&quot;&#x27;" in forked()._repr_html_()


def test_a_workflow_is_drawn_as_mermaid() -> None:
    drawn = forked().to_mermaid().splitlines()
    assert drawn[0] == "flowchart TD"
    assert "    s1[\"short: filter, where: row.answer == '#quot;'\"]" in drawn
    edges = {line.strip() for line in drawn if "-->" in line}
    assert edges == {
        "i0 --> s0",
        *(f"s{a} --> s{b}" for a, b in [(0, 1), (0, 2), (2, 3), (1, 4)]),
        "i1 --> s3",
    }


def test_what_cannot_run_is_drawn_as_well() -> None:
    step = {"type": "limit", "size": 1}
    circle = [{**step, "id": "a", "from": "b"}, {**step, "id": "b", "from": "a"}]
    lost = {**step, "id": "c", "from": "nope"}
    workflow = Workflow.from_dict({"name": "w", "inputs": {"rows": {}}, "steps": [*circle, lost]})
    drawn = workflow.to_tree().splitlines()
    assert [line for line in drawn if line.endswith("?")] == ["b ?", "nope ?"]
    assert sum("limit" in line for line in drawn) == 3
    assert workflow.to_mermaid().count("limit") == 3
