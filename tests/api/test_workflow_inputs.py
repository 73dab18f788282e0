"""The first rows of a file, and how many it has, whatever its format."""

import json
from pathlib import Path

import pytest

from penstock.api.client_errors import InvalidInput
from penstock.api.workflow_inputs import count_of, sample_of

ROWS = [{"id": str(number), "text": f"a ] {number}"} for number in range(5)]
TABLE = [list(ROWS[0]), *(row.values() for row in ROWS)]
FILES = {
    "rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "rows.json": json.dumps(ROWS, indent=2),
    "array.jsonl": json.dumps(ROWS),
    "rows.csv": "".join(",".join(line) + "\n" for line in TABLE),
    "rows.tsv": "".join("\t".join(line) + "\n" for line in TABLE),
    "rows.tab": "".join("\t".join(line) + "\n" for line in TABLE),
}


@pytest.mark.parametrize("name", FILES)
def test_the_first_rows_of_a_file_and_their_number(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert sample_of(path, 3) == {"rows": ROWS[:3]}
    assert count_of(path) == 5


def test_a_broken_array_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n{"a": 1},\n{"a":')
    with pytest.raises(InvalidInput, match=r"rows\.json: .* breaks off in line 3"):
        sample_of(path)
    with pytest.raises(InvalidInput, match="breaks off in line 3"):
        count_of(path)
