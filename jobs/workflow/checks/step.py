"""One step under examination: where it stands, what it reads, and whom to tell what is wrong.

Knows templates and expressions; no kind of step.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ...templates import RenderError, Template, TemplateError
from ..expressions.errors import EvaluationError, ExpressionError
from ..expressions.expression import Aggregate, Expression
from ..expressions.parser import without_braces
from ..expressions.types import ANY, Type
from ..expressions.typing import NoSuchField, field_type
from ..plan import ROWS
from ..spec import Step
from .draft import place_of
from .flow import Flow
from .problems import Problems

Wanted: TypeAlias = Literal["truth", "text", "count", "list", "order", "any"]

RESERVED = frozenset({"row_id", "parent_id", "parents", "row_index"})

_WANTED: Mapping[Wanted, tuple[str, frozenset[str]]] = {
    "truth": ("true or false", frozenset({"bool"})),
    "text": ("a text", frozenset({"string"})),
    "count": ("a whole number", frozenset({"int64"})),
    "list": ("a list", frozenset({"list", "vector"})),
    "order": ("a number or a text", frozenset({"int64", "float64", "bool", "string"})),
}


@dataclass(frozen=True, slots=True)
class StepCheck:
    """A step being checked.

    Attributes:
        spec: what its author wrote.
        flows: the rows of its sources.
        params: those of the run, with their defaults, and the type of all of them.
        added_by: which step adds a column, for those that come later or on other paths.
        is_default: whether a row that fails goes on with the step's `default`.
        is_alone: whether there is no run yet, so that a param may still be null.
        served: the models that may be asked, as far as that is known.
    """

    spec: Step
    flows: tuple[Flow, ...]
    params: Mapping[str, Any]
    params_type: Type
    problems: Problems
    added_by: Mapping[str, str]
    is_default: bool
    is_alone: bool
    served: Collection[str] = ()

    @property
    def flow(self) -> Flow:
        """The rows of its first source."""
        return self.flows[0]

    def tell(self, field: str, message: str) -> None:
        """Say what is wrong with a field."""
        self.problems.add(f"{place_of(self.spec.id)}.{field}", message)

    def scope(self, row: Type, **more: Type) -> Mapping[str, Type]:
        """Return the types of the names that a template or an expression may use."""
        return {"row": row, "params": self.params_type, **more}

    def expression(
        self, field: str, text: str, row: Type, wants: Wanted = "any"
    ) -> tuple[Expression | None, Type]:
        """Check an expression over a row; None where it is none."""
        if self.problems.is_full:
            return None, ANY
        try:
            expression = Expression.parse(text)
            if self._reads_known(field, expression.columns, row):
                found = expression.type_in(self.scope(row))
                self._check_wanted(field, found, wants)
                return expression, found
        except ExpressionError as error:
            self.tell(field, str(error))
        return None, ANY

    def aggregate(self, field: str, text: str, row: Type) -> Type:
        """Check an aggregate over rows."""
        if self.problems.is_full:
            return ANY
        try:
            aggregate = Aggregate.parse(text)
            if self._reads_known(field, aggregate.columns, row):
                return aggregate.type_in(self.scope(row))
        except ExpressionError as error:
            self.tell(field, str(error))
        return ANY

    def template(self, field: str, text: str, scope: Mapping[str, Type]) -> Template | None:
        """Check a template over some names; None where it is none."""
        if self.problems.is_full:
            return None
        try:
            template = Template.compile(text, frozenset(scope))
        except TemplateError as error:
            self.tell(field, str(error))
            return None
        for path in sorted(template.paths, key=str):
            root, *keys = path
            row = scope[str(root)]
            if root == "rows":
                row, keys = row.item or ANY, keys[1:]
            if root != "params" and not self._reads_known(field, {tuple(keys)}, row):
                continue
            self._check_path(field, path, scope)
        return template

    def is_of_row(self, text: str) -> bool:
        """Whether an expression reads its row, so that it has no value before there is one."""
        try:
            return any(path[0] == "row" for path in Expression.parse(text).paths)
        except ExpressionError:
            return False  # whoever computes it will tell

    def constant(self, field: str, text: str) -> Any:
        """Compute what a text says that may read the params only; None where it cannot be."""
        return self.constant_at(f"{place_of(self.spec.id)}.{field}", text)

    def constant_at(self, where: str, text: str) -> Any:
        """Compute what a text says, wherever it stands."""
        value = None
        try:
            expression = Expression.parse(text, names=frozenset({"params"}))
            expression.type_in({"params": self.params_type})
            value = expression.evaluate({"params": self.params})
        except ExpressionError as error:
            self.problems.add(where, f"it must be known before the run: {error}")
        except EvaluationError as error:
            if not self.is_alone:
                self.problems.add(where, f"it must be known before the run: {error}")
        else:
            if value is None and not self.is_alone:
                self.problems.add(
                    where, f"it must be known before the run, and {text[:80]!r} is null"
                )
        return value

    def constant_text(self, field: str, text: str) -> str | None:
        """Fill in a template that may read the params only; None where it cannot be."""
        try:
            template = Template.compile(text, frozenset({"params"}))
            return template.render_in({"params": self.params})
        except TemplateError as error:
            self.tell(field, f"it must be known before the run: {error}")
        except RenderError as error:
            if not self.is_alone:
                self.tell(field, f"it must be known before the run: {error}")
        return None

    def adding(self, flow: Flow, added: Mapping[str, Type]) -> Mapping[str, Type]:
        """Check the names of columns that are added to rows; return the columns."""
        for name in added:
            if name in flow.columns:
                self.tell("as", f"the rows have a column {name!r} already; name it with `as`")
            elif not is_name_free(name) and name != self.spec.id:
                self.tell("as", f"the name {name!r} is kept for other uses; name it with `as`")
        return added

    def _reads_known(
        self, field: str, columns: Iterable[tuple[str | None, ...]], row: Type
    ) -> bool:
        """Tell of columns that there are, but not here; whether there were none."""
        names = {str(path[0]) for path in columns if path} - row.fields.keys()
        is_known = all(flow.is_traced or not flow.is_open for flow in self.flows)
        later = sorted(names & self.added_by.keys()) if is_known else []
        for name in later:
            step = self.added_by[name]
            self.tell(field, f"row.{name} is what step {step!r} adds, which does not come before")
        return not later

    def _check_path(
        self, field: str, path: tuple[str | None, ...], scope: Mapping[str, Type]
    ) -> None:
        root, *keys = path
        of, called = scope[str(root)], str(root)
        for key in keys:
            try:
                of = field_type(of, key, called)
            except NoSuchField as error:
                self.tell(field, str(error))
                return
            called += f".{key}" if key is not None else "[…]"

    def _check_wanted(self, field: str, found: Type, wants: Wanted) -> None:
        if wants == "any" or found.kind in ("any", "null"):
            return
        words, kinds = _WANTED[wants]
        if found.kind not in kinds:
            self.tell(field, f"must give {words}, but gives {found.in_words}")


def is_one_expression(text: str) -> bool:
    """Whether a template is one expression in braces, and nothing beside."""
    bare = without_braces(text)
    return bare != text.strip() and "{{" not in bare and "{%" not in bare


def is_name_free(name: str) -> bool:
    """Whether a step may add a column of that name, or a step have it as its id."""
    return name not in RESERVED and "__" not in name and name != ROWS
