"""Workflows as a program builds them: each step a call, the specification the result.

    wf = Workflow("best-of-8")
    questions = wf.input("questions")
    (
        questions.generate("answer", prompt="{{ row.question }}", n=8)
        .judge("score", mode="reward", prompt="{{ row.question }}\\n{{ row.answer }}")
        .reduce("best", group_by="parent", pick={"max": "row.score.value"})
    )
    print(wf.to_yaml())

Knows how a specification is written down, and nothing of what it means: whether steps fit together
is for the server to tell. Loads no library until YAML is wanted.
"""

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Self, Unpack

from .client_errors import InvalidInput
from .workflow_document import plain, plain_mapping, without_none
from .workflow_file import read_document
from .workflow_options import (
    EmbedOptions,
    ExpandOptions,
    GenerateOptions,
    JoinOptions,
    JudgeOptions,
    MapOptions,
    ReduceOptions,
    StepOptions,
    WorkflowOptions,
    check_options,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ORDER = (  # in which the parts of a specification are written
    "version", "name", "description", "inputs", "params", "defaults", "schemas", "steps", "output",
    "max_error_rate",
)  # fmt: skip


class Workflow:
    """A specification in the making. Two are equal that say the same."""

    def __init__(self, name: str, **options: Unpack[WorkflowOptions]) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(
                "a workflow's name is a letter or digit, then letters, digits, _ . or -, up to 64 "
                f"in all, got {name!r:.80}"
            )
        check_options(options, WorkflowOptions, "a workflow")
        self._document: dict[str, Any] = {
            "version": 1,
            "name": name,
            "inputs": {},
            **plain(without_none(options), "the workflow"),
            "steps": [],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Take a whole specification, as `to_dict` gives it.

        Raises:
            InvalidInput: it is none by its shape; what it means is checked by the server.
        """
        copy = plain_mapping(document, "the workflow")
        if not isinstance(copy.get("name"), str):
            raise InvalidInput("the workflow has no name: write `name: my-workflow`")
        if not isinstance(inputs := copy.get("inputs", {}), dict):
            raise InvalidInput(f"the workflow's inputs must be a mapping, got {inputs!r:.80}")
        if not isinstance(steps := copy.get("steps"), list):
            raise InvalidInput("the workflow has no steps: write `steps:` and a list of them")
        for number, step in enumerate(steps):
            if not isinstance(step, dict):
                said = f"{step!r:.80}"
                raise InvalidInput(
                    f"steps[{number}] must be a mapping with id and type, got {said}"
                )
        workflow = cls("unnamed")  # the server tells all that is wrong, with the name too
        workflow._document = {"version": 1, "inputs": {}, **copy}
        return workflow

    @classmethod
    def from_yaml(cls, text: str | bytes, *, source: str = "the workflow") -> Self:
        """Read a specification from YAML (or JSON); `source` names it in messages.

        Raises:
            InvalidInput: it cannot be read; the message names line and column.
        """
        from .workflow_yaml import read_yaml  # PyYAML is wanted by nobody else

        return cls.from_dict(read_yaml(text, source=source))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a specification from a file of YAML or JSON.

        Raises:
            InvalidInput: the file cannot be read, or is no specification.
        """
        return cls.from_dict(read_document(path))

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self._document["name"]

    @property
    def inputs(self) -> list[str]:
        """The datasets that a run brings, by name."""
        return list(self._document["inputs"])

    @property
    def steps(self) -> list[str]:
        """The ids of the steps, in order."""
        return [str(step.get("id")) for step in self._document["steps"]]

    def input(self, name: str, columns: Mapping[str, str] | None = None) -> "Rows":
        """Declare a dataset; `columns` promises them, as in `{"text": "string"}`."""
        self._require_free(name)
        promised = {"columns": plain(columns, name)} if columns else {}
        self._document["inputs"][name] = {"type": "dataset", **promised}
        return Rows(self, f"inputs.{name}")

    def rows(self, step: str) -> "Rows":
        """Take up the rows of a step, or of `inputs.<name>`, that is there already."""
        if step not in self.steps and step.removeprefix("inputs.") not in self.inputs:
            known = ", ".join([*(f"inputs.{name}" for name in self.inputs), *self.steps])
            raise ValueError(f"there is no step {step!r}; there are {known or 'none'}")
        return Rows(self, step)

    def output(
        self,
        rows: "Rows | None" = None,
        *,
        select: list[str] | None = None,
        sink: str | None = None,
    ) -> Self:
        """Say what is the result: by default all columns of the last step.

        Args:
            rows: those of another step.
            select: columns, or fields of them, as in `["text", "judge.score"]`.
            sink: what receives them: a directory of the server's machine, or `s3://bucket/prefix`.
        """
        said = {
            "from": rows.source if rows else None,
            "select": select,
            "sink": {"type": "parquet", "uri": sink} if sink else None,
        }
        self._document["output"] = plain(without_none(said), "output")
        return self

    def add(self, step: Mapping[str, Any]) -> "Rows":
        """Append a step as it stands in a specification; every other method ends here."""
        copy = plain(step, f"step {step.get('id')!r}")
        self._require_free(str(copy.get("id")))
        self._document["steps"].append(copy)
        return Rows(self, copy["id"])

    def to_dict(self) -> dict[str, Any]:
        """Give the specification as plain data: what YAML, JSON and the server read."""
        document = plain(self._document, "the workflow")
        rest = [key for key in document if key not in _ORDER]
        return {key: document[key] for key in (*_ORDER, *rest) if key in document}

    def to_yaml(self) -> str:
        """Give the specification as YAML; `from_yaml` reads it back."""
        from .workflow_yaml import write_yaml

        return write_yaml(self.to_dict())

    def to_json(self) -> str:
        """Give the specification as JSON, which `from_yaml` reads, too."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def to_tree(self) -> str:
        """Draw the graph as text: each step below the one whose rows it takes."""
        from .workflow_graph import tree_lines  # drawings are wanted by few

        return "\n".join(tree_lines(self.to_dict()))

    def to_mermaid(self) -> str:
        """Draw the graph as a Mermaid flowchart."""
        from .workflow_graph import mermaid

        return mermaid(self.to_dict())

    def _repr_html_(self) -> str:
        """Draw the graph in a notebook."""
        return f"<b>{escape(self.name)}</b><pre>{escape(self.to_tree())}</pre>"

    def __eq__(self, other: object) -> bool:
        """Say whether another specification says the same."""
        return isinstance(other, Workflow) and self._document == other._document

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # it changes while it is built

    def __repr__(self) -> str:
        """Show the name and the steps."""
        return f"<Workflow {self.name}: {' → '.join(self.steps) or 'no steps yet'}>"

    def _require_free(self, name: str) -> None:
        if name in self.steps or name in self.inputs:
            raise ValueError(f"there is a step or an input {name!r} already; take another name")


class Rows:
    """The rows of a step or an input: what the next step is called on."""

    def __init__(self, workflow: Workflow, source: str) -> None:
        self.workflow = workflow
        self.source = source

    def generate(self, id: str, **options: Unpack[GenerateOptions]) -> "Rows":
        """Ask a model, and keep its answer as `row.<id>`; see `GenerateOptions`."""
        return self._add("generate", id, options, GenerateOptions)

    def judge(self, id: str, **options: Unpack[JudgeOptions]) -> "Rows":
        """Ask a model about what others said; see `JudgeOptions`."""
        return self._add("judge", id, options, JudgeOptions)

    def embed(self, id: str, **options: Unpack[EmbedOptions]) -> "Rows":
        """Keep the vector of a text; see `EmbedOptions`."""
        return self._add("embed", id, options, EmbedOptions)

    def map(self, id: str, **options: Unpack[MapOptions]) -> "Rows":
        """Compute `row.<id>.<field>` by expressions, or by an operation of the workers."""
        return self._add("map", id, options, MapOptions)

    def filter(self, id: str, where: str, **options: Unpack[StepOptions]) -> "Rows":
        """Let rows pass for which an expression holds, as in `row.score > 7`; adds no column."""
        return self._add("filter", id, {"where": where, **options}, StepOptions, "where")

    def expand(self, id: str, **options: Unpack[ExpandOptions]) -> "Rows":
        """Make many rows of one; see `ExpandOptions`."""
        return self._add("expand", id, options, ExpandOptions)

    def reduce(self, id: str, **options: Unpack[ReduceOptions]) -> "Rows":
        """Make one row of a group; see `ReduceOptions`."""
        return self._add("reduce", id, options, ReduceOptions)

    def dedupe(self, id: str, key: str, **options: Unpack[StepOptions]) -> "Rows":
        """Keep the first row of those whose key, a template, is equal; adds no column."""
        return self._add("dedupe", id, {"key": key, **options}, StepOptions, "key")

    def sample(
        self, id: str, *, fraction: float | None = None, size: int | None = None, seed: int = 0
    ) -> "Rows":
        """Keep a share of the rows, or so many of them, by chance; adds no column."""
        said = {"fraction": fraction, "size": size, "seed": seed or None}
        return self._add("sample", id, said)

    def limit(self, id: str, size: int) -> "Rows":
        """Keep the first rows; adds no column."""
        return self._add("limit", id, {"size": size})

    def join(self, id: str, other: "Rows", **options: Unpack[JoinOptions]) -> "Rows":
        """Bring rows together with those of another step; its columns come under `row.<id>`."""
        return self._add("join", id, options, JoinOptions, others=(other,))

    def concat(self, id: str, *others: "Rows") -> "Rows":
        """Put the rows of other steps behind these; columns that one lacks are null."""
        return self._add("concat", id, {}, others=others)

    def __repr__(self) -> str:
        """Show whose rows these are."""
        return f"<Rows of {self.source} in {self.workflow.name}>"

    def _add(
        self,
        kind: str,
        id: str,
        options: Mapping[str, Any],
        known: type | None = None,
        *own: str,
        others: tuple["Rows", ...] = (),
    ) -> "Rows":
        if known is not None:
            given = {name: value for name, value in options.items() if name not in own}
            check_options(given, known, f"step {id!r}")
        if any(rows.workflow is not self.workflow for rows in others):
            raise ValueError(f"step {id!r} takes rows of another workflow")
        step = {"id": id, "type": kind, **self._edge(others)}
        for name, value in without_none(options).items():
            step["as" if name == "as_" else name] = value
        return self.workflow.add(step)

    def _edge(self, others: tuple["Rows", ...]) -> dict[str, Any]:
        """Name the sources, unless it is the step before, as everybody would read it."""
        if others:
            return {"from": [self.source, *(rows.source for rows in others)]}
        return {} if self.workflow.steps[-1:] == [self.source] else {"from": self.source}
