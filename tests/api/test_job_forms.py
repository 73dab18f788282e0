"""Bulk jobs whose answers have a form or call tools, from the client to Parquet."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from penstock.api.cli import make_app
from penstock.api.client import Client
from penstock.api.client_errors import BadRequest, RowFailed
from penstock.jobs.fake_engine import SAY

from .conftest import MODEL, Stack

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class Order(BaseModel):
    item: str
    amount: int | None = None


@pytest.fixture
def penstock(stack: Stack) -> Any:
    with Client(stack.url) as client:
        yield client


def test_a_schema_fills_typed_columns(penstock: Client) -> None:
    answers = ['{"item": "tea",  "amount": 2}', '{"item": "salt"}', '{"item": "cut o']
    job = penstock.jobs.submit(
        [{"text": answer} for answer in answers],
        model=MODEL,
        prompt=SAY + "{{ row.text }}",
        schema=Order,
    ).wait(timeout_s=60)
    assert (job.counts.succeeded, job.counts.unparsed) == (3, 1)
    assert "3/3 rows, 1 unparsed" in repr(job)
    table = job.to_arrow()
    assert table.schema.field("parsed").type == pa.struct([("item", "string"), ("amount", "int64")])
    rows = list(job.results())
    assert [row.parsed for row in rows] == [
        Order(item="tea", amount=2),
        Order(item="salt", amount=None),
        None,
    ]
    assert [row.parse_error for row in rows[:2]] == [None, None]
    plain = list(penstock.jobs.get(job.id).results())
    assert [row.parsed for row in plain] == [{"item": "tea", "amount": 2}, {"item": "salt"}, None]
    for answers_read in (rows, plain):
        assert [row.ok for row in answers_read] == [True, True, False]
        assert answers_read[2].parse_error == "the answer is no JSON; it ended for: stop"
    for read in (job, penstock.jobs.get(job.id)):
        with pytest.raises(RowFailed, match="row 2 has no answer: not_parsed: the answer is no"):
            list(read.results(raise_on_error=True))
    assert rows[0]["output_json"] == '{"item":"tea","amount":2}'
    assert [row.output for row in rows] == answers


class Dear(BaseModel):
    item: str
    amount: int = Field(gt=5)


def test_an_answer_may_be_less_than_a_model_asks_for(penstock: Client) -> None:
    rows = [{"text": '{"item": "tea", "amount": 2}'}, {"text": '{"item": "gold", "amount": 9}'}]
    made = penstock.jobs.submit(rows, model=MODEL, prompt=SAY + "{{ row.text }}", schema=Order)
    made.wait(timeout_s=60)
    later = penstock.jobs.get(made.id, schema=Dear)
    for few, much in (later.results(), made.results(parse_as=Dear)):
        assert not few.ok and few.parsed is None
        assert few.parse_error is not None and "greater than 5" in few.parse_error
        assert (much.parsed, much.parse_error) == (Dear(item="gold", amount=9), None)


def test_a_row_that_failed_is_an_error_where_one_is_asked_for(penstock: Client) -> None:
    rows = [{"text": "a"}, {"text": "[[fail]]"}]
    job = penstock.jobs.submit(rows, model=MODEL, prompt=SAY + "{{ row.text }}")
    good, bad = job.wait(timeout_s=60).results()
    assert (good.ok, good.index, good.error) == (True, 0, None)
    assert bad.error is not None and not bad.ok
    failing = job.results(raise_on_error=True)
    assert next(failing).index == 0
    with pytest.raises(RowFailed, match="row 1 has no answer: ") as caught:
        next(failing)
    assert (caught.value.code, caught.value.job_id) == (bad.error["code"], job.id)


def test_a_plain_schema_does_too(penstock: Client) -> None:
    job = penstock.jobs.submit(
        [{"a": 1}],
        model=MODEL,
        prompt=SAY + "[1, 2]",
        schema={"type": "array", "items": {"type": "integer"}},
    ).wait(timeout_s=60)
    [row] = job.results()
    assert "parsed" not in row
    assert row.parsed == [1, 2]


def test_answers_may_call_tools(penstock: Client) -> None:
    call = '<tool_call>{"name": "look", "arguments": {"at": "sky"}}</tool_call>'
    job = penstock.jobs.submit(
        [{"text": "So. " + call + call}, {"text": call}, {"text": "no"}],
        model=MODEL,
        prompt=SAY + "{{ row.text }}",
        tools=[TOOL],
    ).wait(timeout_s=60)
    first, second, third = job.results()
    assert [made["name"] for made in first.tool_calls] == ["look", "look"]
    assert json.loads(first.tool_calls[0]["arguments"]) == {"at": "sky"}
    ids = {made["id"] for row in (first, second) for made in row.tool_calls}
    assert len(ids) == 3
    assert [row.output for row in (first, second, third)] == ["So. ", None, "no"]
    reasons = [row["finish_reason"] for row in (first, second, third)]
    assert reasons == ["tool_calls", "tool_calls", "stop"]


def test_batch_lines_bring_their_own_requests(penstock: Client, tmp_path: Path) -> None:
    def line(name: str, **body: Any) -> str:
        messages = [{"role": "user", "content": SAY + body.pop("say", "{}")}]
        body = {"model": MODEL, "messages": messages, **body}
        url = "/v1/chat/completions"
        return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})

    lines = tmp_path / "batch.jsonl"
    lines.write_text(
        "\n".join(
            [
                line("plain", say="plain"),
                line("json", response_format={"type": "json_object"}),
                line("bad", response_format={"type": "xml"}),
                line("short", say="0123456789", max_tokens=1),
            ]
        )
    )
    job = penstock.jobs.submit(lines, model=MODEL, id="custom_id").wait(timeout_s=60)
    rows = {row["custom_id"]: row for row in job.results()}
    assert rows["plain"].output == "plain"
    assert rows["plain"]["output_json"] is None
    assert rows["json"].parsed == {}
    assert rows["short"].output == "01234"
    error = rows["bad"].error
    assert error is not None
    assert (error["code"], error["param"]) == ("invalid_request", "response_format")
    assert job.counts.failed == 1


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"schema": {}, "sampling": {"structured_outputs": {"regex": "a"}}}, "response_format"),
        ({"sampling": {"prompt_logprobs": 1}}, "prompt_logprobs"),
    ],
)
def test_a_bad_form_is_refused_at_once(penstock: Client, options: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        penstock.jobs.submit([{"a": 1}], model=MODEL, prompt="x", **options)
    assert caught.value.param == param


def test_what_is_no_schema_is_told_before_anything_is_sent(penstock: Client) -> None:
    wrong: Any = [5, "schema.json", int]
    for schema in wrong:
        with pytest.raises(TypeError, match="schema must be"):
            penstock.jobs.submit([{"a": 1}], model=MODEL, prompt="x", schema=schema)
    with pytest.raises(TypeError, match="either schema or response_format"):
        penstock.jobs.submit(
            [{"a": 1}], model=MODEL, schema={}, response_format={"type": "json_object"}
        )


def test_the_command_line_reads_a_schema(stack: Stack, tmp_path: Path) -> None:
    rows, schema = tmp_path / "rows.jsonl", tmp_path / "schema.json"
    rows.write_text('{"a": 1}\n')
    schema.write_text(json.dumps(Order.model_json_schema()))
    command = ["run", str(rows), "--prompt", SAY + '{"item": "tea"}', "--schema", str(schema)]
    command += ["--model", MODEL, "--url", stack.url, "--out", str(tmp_path / "out"), "--again"]
    result = CliRunner().invoke(make_app(), command)
    assert result.exit_code == 0, result.output
    [part] = (tmp_path / "out").rglob("*.parquet")
    assert pq.read_table(part)["parsed"].to_pylist() == [{"item": "tea", "amount": None}]
    schema.write_text("[]")
    assert CliRunner().invoke(make_app(), command).exit_code != 0
