"""What a row of a run says of itself."""

from typing import Any

import pytest

from penstock.api.run_row import RunRow

FAILED = {"status": "failed", "error_code": "engine_error"}
FINE = {"status": "succeeded", "error_code": None}
WHY = {"code": "expression_error", "message": "division by zero", "stage": "compute"}


@pytest.mark.parametrize(
    ("columns", "errors"),
    [
        ({"said": "a", "said__meta": FINE}, {}),
        ({"said": None, "said__meta": FINE}, {}),
        ({"said": None, "said__meta": FAILED}, {"said": "engine_error"}),
        ({"said": "instead", "said__meta": FAILED}, {}),  # a default has filled in
        ({"said__meta": FAILED}, {"said": "engine_error"}),  # the value is not selected
        ({"half": None, "half__error": WHY, "x": 1}, {"half": "expression_error"}),
        ({"half": {"x": 1}, "half__error": None}, {}),
        ({"half": None, "half__error": "a text of an input"}, {}),
        ({"ok": None, "note": FAILED}, {}),
    ],
)
def test_it_names_the_columns_that_could_not_be_made(
    columns: dict[str, Any], errors: dict[str, str]
) -> None:
    row = RunRow({"row_id": "3/a#1", "parent_id": "3", **columns})
    assert (row.id, row.parent_id, row.errors, row.ok) == ("3/a#1", "3", errors, not errors)
