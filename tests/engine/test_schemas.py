"""Whatever a model would rather say, what it says has the form that was asked for."""

import json
import re
from typing import Any, cast

import pytest
import torch

from penstock import LLM
from penstock.engine.architecture import ModelArchitecture
from penstock.engine.batch import StepBatch
from penstock.engine.outputs import FinishReason
from penstock.engine.sampling_params import SamplingParams, StructuredOutputs

from .fake_runner import VOCAB_SIZE, FakeArchitecture, FakeRunner
from .formed_rows import BUDGET_S, SHORT, an_array, an_object, form_of, make_engine, request, run
from .tiny_tokenizers import byte_fallback, byte_level

NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer", "minimum": 0, "maximum": 9},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]},
    },
    "required": ["value", "next"],
    "additionalProperties": False,
}


SCHEMAS: dict[str, dict[str, Any]] = {
    "string": SHORT,
    "integer": {"type": "integer", "minimum": -5, "maximum": 120},
    "number": {"type": "number", "minimum": 0, "maximum": 1},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "several types": {"type": ["boolean", "null"]},
    "enum": {"enum": ["red", "green", 3, None, [1, "x"], {"a": True}]},
    "const": {"const": {"kind": "水", "n": 1.5}},
    "unicode enum": {"enum": ["水", "naïve", "🚰", 'a"b\\c', "\n"]},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "object": an_object(name=SHORT, age={"type": "integer", "minimum": 0, "maximum": 150}),
    "optional": an_object("b", "c", a={"type": "null"}, b={"type": "boolean"}, c={"const": 1}),
    "empty object": an_object(),
    "nested": an_object(a=an_object(b=an_object(c={"enum": [1, 2]}))),
    "array": an_array({"type": "boolean"}, 1, 4),
    "array of objects": an_array(an_object(id={"enum": [1, 2, 3]}), 0, 3),
    "array of arrays": an_array(an_array({"const": 0}, 0, 2), 2, 2),
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"const": "x"}],
        "items": False,
        "minItems": 2,
    },
    "ref": {"$defs": {"colour": {"enum": ["red", "blue"]}}, "$ref": "#/$defs/colour"},
    "refs": {"$defs": {"leaf": an_object(v={"const": 1})}, **NODE},
    "anyOf": {"anyOf": [{"type": "boolean"}, an_object(x={"const": "y"}), {"const": 7}]},
    "oneOf": {"oneOf": [{"const": "a"}, {"type": "null"}]},
    "allOf": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
}


def fits(value: Any, schema: Any, root: Any) -> bool:
    """A JSON Schema validator for the keywords above."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        if not fits(value, target, root):
            return False
    names = schema.get("type", [])
    kinds = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)

    def is_of(name: str) -> bool:
        if name in {"integer", "number"}:
            return is_number and (name == "number" or value == int(value))
        return isinstance(value, kinds[name])

    checks = [
        not names or any(is_of(n) for n in ([names] if isinstance(names, str) else names)),
        "enum" not in schema or any(same(value, each) for each in schema["enum"]),
        "const" not in schema or same(value, schema["const"]),
        not is_number or schema.get("minimum", value) <= value <= schema.get("maximum", value),
        "anyOf" not in schema or any(fits(value, each, root) for each in schema["anyOf"]),
        "oneOf" not in schema or sum(fits(value, each, root) for each in schema["oneOf"]) == 1,
        all(fits(value, each, root) for each in schema.get("allOf", ())),
    ]
    if isinstance(value, str):
        checks.append(len(value) <= schema.get("maxLength", len(value)))
        checks.append(re.search(schema.get("pattern", ""), value) is not None)
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        checks += [fits(v, s, root) for v, s in zip(value, first, strict=False)]
        checks += [fits(v, schema.get("items", True), root) for v in value[len(first) :]]
        low, high = schema.get("minItems", 0), schema.get("maxItems", len(value))
        checks.append(low <= len(value) <= high)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        checks += [fits(v, known.get(k, rest), root) for k, v in value.items()]
        checks.append({*schema.get("required", ())} <= {*value})
    return all(checks)


def same(value: Any, other: Any) -> bool:
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_the_validator_of_this_file_refuses() -> None:
    wrong = {
        "string": ["1234567", 1], "integer": [121, 1.5, True], "number": [1.01, "0"],
        "boolean": [0], "null": [False], "several types": [0], "enum": ["blue", 4],
        "const": [{"kind": "水", "n": 1}], "unicode enum": ["x"], "pattern": ["AB-12", "xAB-123"],
        "object": [{"name": "a"}, {"name": "a", "age": 3, "x": 1}], "optional": [{"b": True}],
        "nested": [{"a": {"b": {}}}], "array": [[], [True] * 5, [1]], "tuple": [[True], [True, "y"],
        [True, "x", 1]], "ref": ["green"], "refs": [{"value": 1, "next": {"v": 2}}],
        "anyOf": [{"x": "z"}, 8], "oneOf": ["b"], "allOf": [2, 6],
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            assert not fits(value, SCHEMAS[name], SCHEMAS[name]), (name, value)


class WideRunner(FakeRunner):
    """A model whose vocabulary is padded beyond any tokenizer here, and likes that best."""

    NUM_PADDED = 20

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.architecture = cast(
            ModelArchitecture,
            FakeArchitecture(self.max_model_len, vocab_size=VOCAB_SIZE + self.NUM_PADDED),
        )

    def execute(self, batch: StepBatch) -> torch.Tensor:
        logits = super().execute(batch)
        padding = logits[:, 10 : 10 + self.NUM_PADDED] + 3.0
        return torch.cat([logits, padding], dim=-1)


@pytest.mark.parametrize("tokenizer", [byte_level, byte_fallback], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {}, {"top_p": 0.9, "temperature": 2}], ids=str
)
def test_what_a_model_of_noise_says_fits_its_schema(tokenizer: Any, params: dict[str, Any]) -> None:
    engine = make_engine(tokenizer=tokenizer(), runner=WideRunner(400))
    requests = [request(name, form_of(schema), **params) for name, schema in SCHEMAS.items()]
    outputs = run(engine, *requests)
    for name, schema in SCHEMAS.items():
        output = outputs[name, 0]
        assert (output.finish_reason, output.error) == (FinishReason.STOP, None), name
        value = json.loads(output.text)
        assert fits(value, schema, schema), (name, value)


def test_what_the_demo_model_says_fits_its_schema() -> None:
    options: dict[str, Any] = {
        "kv_cache_gb": 0.05,
        "max_num_seqs": 16,
        "grammar_timeout_s": BUDGET_S,
    }
    llm = LLM("penstock-demo", dtype="float32", device="cpu", **options)
    params = [
        SamplingParams(
            structured_outputs=form_of(schema), max_tokens=300, seed=i, temperature=i % 2
        )
        for i, schema in enumerate(SCHEMAS.values())
    ]
    outputs = llm.generate(["Order: three lamps."] * len(params), params)
    for (name, schema), output in zip(SCHEMAS.items(), outputs, strict=True):
        (sample,) = output.outputs
        assert (sample.finish_reason, output.error) == ("stop", None), name
        assert fits(json.loads(sample.text), schema, schema), (name, sample.text)
    llm.engine.check()


@pytest.mark.parametrize(
    ("form", "whole"),
    [
        (StructuredOutputs(regex="[ab]{2,4}(x|y)"), "[ab]{2,4}(x|y)"),
        (StructuredOutputs(choice=("yes", "no", "not at all")), "yes|no|not at all"),
        (StructuredOutputs(choice=('a"b', "水")), 'a"b|水'),
        (StructuredOutputs(grammar='start: "(" /[0-9]/ ")" | "[" /[0-9]/ "]"'), r"\(\d\)|\[\d\]"),
        (StructuredOutputs(grammar='root ::= "a" [0-9] "b"'), r"a\db"),
        (StructuredOutputs(json={"enum": [[1, 2], 3]}, disable_any_whitespace=True), r"\[1,2\]|3"),
        (StructuredOutputs(json={"const": [1, 2]}, whitespace_pattern="_"), r"\[_?1_?,_?2_?\]"),
        (StructuredOutputs(json={"const": [1, 2]}), r"\[\s{0,32}1\s{0,32},\s{0,32}2\s{0,32}\]"),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_form_holds(form: StructuredOutputs, whole: str) -> None:
    engine = make_engine()
    outputs = run(engine, *(request(str(seed), form, seed=seed) for seed in range(12)))
    texts = {output.text for output in outputs.values()}
    assert {output.finish_reason for output in outputs.values()} == {FinishReason.STOP}
    assert [text for text in texts if not re.fullmatch(whole, text)] == []
    assert len(texts) > 1


def test_any_json_object() -> None:
    form = StructuredOutputs(json_object=True)
    engine = make_engine()
    outputs = run(engine, *(request(str(s), form, seed=s, max_tokens=60) for s in range(40)))
    whole = [o.text for o in outputs.values() if o.finish_reason is FinishReason.STOP]
    assert whole
    assert all(isinstance(json.loads(text), dict) for text in whole)
    cut = [o for o in outputs.values() if o.finish_reason is FinishReason.LENGTH]
    assert len(whole) + len(cut) == 40
    assert {output.num_completion_tokens for output in cut} <= {60}
    assert all(output.text.startswith("{") for output in cut)
