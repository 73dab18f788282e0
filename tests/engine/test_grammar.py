"""An output has the form that was asked for, or ends with an error; it never has another form."""

import json
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch

from penstock import LLM
from penstock.engine.architecture import ModelArchitecture
from penstock.engine.batch import StepBatch
from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.grammar import Grammar, GrammarVocabulary
from penstock.engine.outputs import FinishReason, Request, RequestError, StepOutput
from penstock.engine.sampling_params import SamplingParams, StructuredOutputs
from penstock.engine.tokenizer import Tokenizer

from .fake_runner import EOS, VOCAB_SIZE, FakeArchitecture, FakeRunner
from .tiny_tokenizers import byte_fallback, byte_level

SHORT = {"type": "string", "maxLength": 6}
NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer", "minimum": 0, "maximum": 9},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]},
    },
    "required": ["value", "next"],
    "additionalProperties": False,
}


def an_object(*optional: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def an_array(items: Any, low: int, high: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": low, "maxItems": high}


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


def form_of(schema: dict[str, Any]) -> StructuredOutputs:
    return StructuredOutputs(json=schema)


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


def make_engine(
    num_blocks: int = 400,
    tokenizer: Tokenizer | None = None,
    runner: FakeRunner | None = None,
    **options: Any,
) -> Engine:
    return Engine(
        EngineConfig(device="cpu", num_threads=1, **{"max_num_seqs": 32, **options}),
        runner=runner or FakeRunner(num_blocks),
        tokenizer=tokenizer or byte_level(),
    )


def run(engine: Engine, *requests: Request) -> dict[tuple[str, int], StepOutput]:
    """Run requests that tell of their end alone."""
    for request in requests:
        assert engine.add(request) is None
    return finish(engine)


def finish(engine: Engine) -> dict[tuple[str, int], StepOutput]:
    outputs: dict[tuple[str, int], StepOutput] = {}
    while engine.has_work:
        for output in engine.step():
            assert (output.request_id, output.sample_index) not in outputs
            outputs[output.request_id, output.sample_index] = output
        engine.check()
    return outputs


def request(name: str, form: StructuredOutputs | None = None, **params: Any) -> Request:
    params = {"max_tokens": 300, "seed": 1, **params}
    prompt = tuple(range(20, 20 + 5 + len(name)))
    return Request(
        name, prompt, SamplingParams(structured_outputs=form, **params), stream_interval=0
    )


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
    llm = LLM("penstock-demo", dtype="float32", device="cpu", kv_cache_gb=0.05, max_num_seqs=16)
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


@pytest.mark.parametrize(
    "form",
    [
        form_of({"type": "strin"}),
        form_of({"enum": []}),
        form_of({"type": "integer", "minimum": 5, "maximum": 3}),
        form_of({"allOf": [{"type": "string"}, {"type": "number"}]}),
        form_of({"$ref": "#/definitions/nowhere"}),
        form_of({"$ref": "http://127.0.0.1:1/schema.json"}),
        form_of({"type": "string", "pattern": "(?=a)b"}),
        form_of({"not": {"type": "null"}}),
        StructuredOutputs(regex="(a|b"),
        StructuredOutputs(grammar="start: nowhere"),
        StructuredOutputs(grammar="::= ::="),
        form_of({"$ref": "#"}),
        StructuredOutputs(regex=r"[^\s\S]"),
        StructuredOutputs(grammar='root ::= root "a"'),
    ],
    ids=str,
)
def test_a_form_that_cannot_be_fulfilled_fails_its_row_alone(form: StructuredOutputs) -> None:
    engine = make_engine()
    good = StructuredOutputs(regex="ab")
    outputs = run(engine, request("good", good), request("bad", form, n=2), request("plain"))
    assert outputs["good", 0].text == "ab"
    assert outputs["plain", 0].error is None
    for sample in (0, 1):
        error = outputs["bad", sample].error
        assert error is not None
        assert (error.code, error.param) == ("invalid_request", "structured_outputs")
        assert error.message.startswith("structured_outputs cannot be fulfilled: ")
        assert not error.retryable
        assert outputs["bad", sample].token_ids == ()
    assert engine.stats().errors == 2


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ('root ::= "a"', "a grammar without a rule start is GBNF, of which at most 16384"),
        ('start: "a"', ""),
        ('  %llguidance {}\n start : "a"', ""),
    ],
)
def test_a_long_grammar_is_read_by_no_python(start: str, reason: str) -> None:
    vocabulary = GrammarVocabulary(byte_level(), vocab_size=263, eos_token_ids={EOS})
    made = vocabulary.compile(StructuredOutputs(grammar="\n" * 260_000 + start))
    if reason:
        assert isinstance(made, RequestError)
        assert reason in made.message
    else:
        assert isinstance(made, Grammar)


def test_samples_go_their_own_ways() -> None:
    form = StructuredOutputs(regex="[a-z]{8}")
    outputs = run(make_engine(), request("r", form, n=5))
    texts = [outputs["r", sample].text for sample in range(5)]
    assert len({*texts}) == 5
    assert all(re.fullmatch("[a-z]{8}", text) for text in texts)


def test_preemption_and_company_change_nothing() -> None:
    form = form_of(an_object(a=SHORT, b=an_array({"type": "boolean"}, 6, 6)))
    requests = [request(str(seed), form, seed=seed) for seed in range(6)]
    alone = {key: o.text for r in requests for key, o in run(make_engine(), r).items()}
    together = run(make_engine(num_blocks=600), *requests)
    engine = make_engine()
    for each in requests:
        engine.add(each)
    preempted: dict[tuple[str, int], StepOutput] = {}
    num_steps = 0
    while engine.has_work:
        for output in engine.step():
            preempted[output.request_id, output.sample_index] = output
        num_steps += 1
        if num_steps % 3 == 0 and engine.num_running:
            engine._scheduler._preempt(engine._scheduler._running[-1])
        engine.check()
    assert engine.stats().preemptions > 3
    assert {key: output.text for key, output in together.items()} == alone
    assert {key: output.text for key, output in preempted.items()} == alone


def test_min_tokens_gives_way_where_the_form_must_end() -> None:
    many = StructuredOutputs(regex="a{1,9}")
    engine = make_engine()
    requests = [request(str(s), many, seed=s, min_tokens=5) for s in range(12)]
    outputs = run(engine, *requests, request("short", StructuredOutputs(regex="ab"), min_tokens=9))
    assert min(len(o.text) for (name, _), o in outputs.items() if name != "short") >= 5
    assert outputs["short", 0].text == "ab"
    assert {output.finish_reason for output in outputs.values()} == {FinishReason.STOP}
    without = run(make_engine(), *(request(str(s), many, seed=s) for s in range(12)))
    assert min(len(output.text) for output in without.values()) < 5, "or nothing was tested"


def test_it_goes_with_the_other_parameters() -> None:
    form = StructuredOutputs(regex="[ab]{12}")
    engine = make_engine()
    token = {letter: byte_level().encode(letter)[0] for letter in "ab"}  # pyright: ignore[reportIndexIssue]
    outputs = run(
        engine,
        request("bias", form, logit_bias={token["a"]: -100.0}),
        request("bad", form, bad_words=("a",)),
        request("penalty", form, frequency_penalty=2.0, temperature=0),
        request("logprobs", form, logprobs=2),
        request("eos", form, ignore_eos=True),
        request("stop", StructuredOutputs(choice=("one two", "one ten")), stop=("t",)),
        request("nothing", form, allowed_token_ids=(token["a"] + 20,)),
    )
    assert outputs["bias", 0].text == outputs["bad", 0].text == "b" * 12
    assert sorted(outputs["penalty", 0].text) == list("a" * 6 + "b" * 6)
    records = outputs["logprobs", 0].logprobs
    assert records is not None
    assert len(records) == 12
    assert {len(record.top) for record in records} == {2}
    assert re.fullmatch("[ab]{12}", outputs["eos", 0].text)
    assert (outputs["stop", 0].text, outputs["stop", 0].stop_reason) == ("one ", "t")
    error = outputs["nothing", 0].error
    assert error is not None
    assert error.message.startswith("sampling parameters leave no token to choose from")
    assert not error.retryable


def test_the_end_of_text_comes_when_it_may_and_is_no_part_of_the_output() -> None:
    outputs = run(
        make_engine(), *(request(str(s), StructuredOutputs(regex="a+"), seed=s) for s in range(9))
    )
    for output in outputs.values():
        assert re.fullmatch("a+", output.text)
        assert output.finish_reason is FinishReason.STOP
        assert output.token_ids[-1] == EOS
        assert output.stop_reason is None


def test_a_matcher_at_fault_fails_its_row_alone() -> None:
    engine = make_engine()
    engine.add(request("broken", StructuredOutputs(regex="a{40}")))
    engine.add(request("good", StructuredOutputs(regex="a{40}b")))
    while not engine.num_running:
        engine.step()
    for _ in range(3):
        assert engine.step() == []
    (sequence,) = engine._live["broken"]
    assert sequence.matcher is not None
    sequence.matcher.inner.consume_token(byte_level().encode("z")[0])  # pyright: ignore[reportIndexIssue]
    outputs = finish(engine)
    error = outputs["broken", 0].error
    assert error is not None
    assert (error.code, error.param) == ("grammar_error", "structured_outputs")
    assert outputs["good", 0].text == "a" * 40 + "b"


class SlowVocabulary:
    """Compiles nothing that says "slow" before it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        compile_at_once = GrammarVocabulary.compile

        def compile_slowly(
            vocabulary: GrammarVocabulary, form: StructuredOutputs
        ) -> Grammar | RequestError:
            if "slow" in str(form.regex):
                self.gate.wait(60)
            return compile_at_once(vocabulary, form)

        monkeypatch.setattr(GrammarVocabulary, "compile", compile_slowly)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowVocabulary]:
    vocabulary = SlowVocabulary(monkeypatch)
    yield vocabulary
    vocabulary.gate.set()


def test_a_grammar_that_takes_long_holds_nobody_up(slow: SlowVocabulary) -> None:
    engine = make_engine(grammar_timeout_s=60.0)
    engine.add(request("slow", StructuredOutputs(regex="slow|slower")))
    engine.add(request("quick", StructuredOutputs(regex="quick")))
    engine.add(request("plain", max_tokens=3))
    seen: set[str] = set()
    while seen != {"quick", "plain"}:
        seen |= {output.request_id for output in engine.step()}
        engine.check()
    assert (engine.num_waiting, engine.num_running) == (1, 0)
    slow.gate.set()
    assert finish(engine)["slow", 0].text in {"slow", "slower"}


def test_a_grammar_over_its_budget_ends_its_rows_and_no_others(slow: SlowVocabulary) -> None:
    engine = make_engine(grammar_timeout_s=0.05)
    forms = [StructuredOutputs(regex=f"slow{i}") for i in range(4)]
    outputs = run(
        engine,
        *(request(str(i), form, n=2) for i, form in enumerate(forms)),
        request("good", StructuredOutputs(regex="good")),
    )
    for i in range(4):
        error = outputs[str(i), 1].error
        assert error is not None
        assert (error.code, error.param) == ("grammar_error", "structured_outputs")
        assert error.stage == "validate", "the caller's mistake, not the engine's"
        assert (
            error.message == "structured_outputs took longer than 0.05 s to compile; simplify them"
        )
    assert outputs["good", 0].text == "good"


def test_a_grammar_that_comes_too_late_is_there_for_later_rows(slow: SlowVocabulary) -> None:
    engine = make_engine(grammar_timeout_s=0.05)
    form = StructuredOutputs(regex="slow")
    assert run(engine, request("first", form))["first", 0].error is not None
    slow.gate.set()
    for thread in threading.enumerate():
        if thread.name == "grammar":
            thread.join()
    assert run(engine, request("later", form))["later", 0].text == "slow"


def test_a_row_may_be_taken_back_while_its_grammar_is_made(slow: SlowVocabulary) -> None:
    engine = make_engine(grammar_timeout_s=60.0)
    engine.add(request("r", StructuredOutputs(regex="slow"), n=3))
    assert engine.step() == []
    engine.check()
    engine.abort("r")
    outputs = engine.step()
    assert [output.finish_reason for output in outputs] == [FinishReason.ABORT] * 3
    assert not engine.has_work
    engine.check()


def test_a_form_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[StructuredOutputs] = []
    compile_it = GrammarVocabulary.compile

    def counting(vocabulary: GrammarVocabulary, form: StructuredOutputs) -> Grammar | RequestError:
        compiled.append(form)
        return compile_it(vocabulary, form)

    monkeypatch.setattr(GrammarVocabulary, "compile", counting)
    engine = make_engine()
    forms = [StructuredOutputs(choice=("a", letter)) for letter in "bc"]
    run(engine, *(request(str(i), forms[i % 2]) for i in range(10)))
    run(engine, request("later", forms[0]))
    assert sorted(compiled, key=str) == sorted(forms, key=str)


def test_without_the_package_the_row_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    outputs = run(make_engine(), request("r", StructuredOutputs(regex="a")), request("plain"))
    error = outputs["r", 0].error
    assert error is not None
    assert error.code == "grammar_error"
    assert "pip install llguidance" in error.message
    assert outputs["plain", 0].error is None


def test_a_panic_over_the_tokenizer_ends_the_rows_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class PanicException(BaseException):
        """What Rust raises: no Exception."""

    def panic(*_: Any, **__: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(GrammarVocabulary, "__init__", panic)
    engine = make_engine()
    for i in range(4):
        engine.add(request(str(i), StructuredOutputs(regex=f"{i}+")))
    for thread in threading.enumerate():
        if thread.name == "grammar":
            thread.join()
    outputs = engine.step()
    assert len(outputs) == 4
    for output in outputs:
        assert output.error is not None
        assert output.error.code == "grammar_error"
        assert "PanicException: index out of bounds" in output.error.message


def test_masks_by_several_threads_are_those_by_one() -> None:
    tokenizer = byte_level()
    vocabularies = [
        GrammarVocabulary(tokenizer, vocab_size=263, eos_token_ids={EOS}, num_threads=threads)
        for threads in (1, 3)
    ]
    masks = []
    for vocabulary in vocabularies:
        grammar = vocabulary.compile(StructuredOutputs(regex="abc|acd|b+"))
        assert isinstance(grammar, Grammar)
        matchers = [grammar.begin() for _ in range(5)]
        for matcher, text in zip(matchers, ("", "a", "ab", "b", "abc"), strict=True):
            for token_id in tokenizer.encode(text):  # pyright: ignore[reportGeneralTypeIssues]
                matcher.advance(token_id)
        masks.append(torch.from_numpy(vocabulary.fill_masks([m.inner for m in matchers])))
    assert torch.equal(masks[0], masks[1])
    assert len({tuple(row) for row in masks[0].tolist()}) == 5
