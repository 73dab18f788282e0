"""Making a grammar takes no longer than it may, holds nobody up, and is done once."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.engine import grammar_compiler
from penstock.engine.engine import Engine
from penstock.engine.grammar import Grammar, GrammarVocabulary
from penstock.engine.outputs import FinishReason, RequestError, StepOutput
from penstock.engine.sampling_params import StructuredOutputs

from .fake_runner import EOS
from .formed_rows import BUDGET_S, finish, make_engine, request, run
from .tiny_tokenizers import byte_level


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


class SlowVocabulary:
    """Compiles nothing that says "slow" before it is let go. Time passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self._begun = threading.Semaphore(0)
        self._now_s = 0.0
        compile_at_once = GrammarVocabulary.compile

        def compile_slowly(
            vocabulary: GrammarVocabulary, form: StructuredOutputs
        ) -> Grammar | RequestError:
            if "slow" in str(form.regex):
                self._begun.release()
                self.gate.wait()
            return compile_at_once(vocabulary, form)

        monkeypatch.setattr(GrammarVocabulary, "compile", compile_slowly)
        monkeypatch.setattr(grammar_compiler, "monotonic", lambda: self._now_s)

    def exceed_budget(self, engine: Engine, num_slow: int) -> list[StepOutput]:
        """Let so many be under way, and more time pass than they have; return what is told."""
        for _ in range(num_slow):
            assert self._begun.acquire(timeout=60)
        self._now_s += 2 * BUDGET_S
        return engine.step()


def wait_for_compilers() -> None:
    for thread in threading.enumerate():
        if thread.name == "grammar":
            thread.join()


@pytest.fixture(autouse=True)
def nobody_compiles_any_more() -> Iterator[None]:
    """What one test has begun would end in the next, by what that has put in its place."""
    yield
    wait_for_compilers()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowVocabulary]:
    vocabulary = SlowVocabulary(monkeypatch)
    yield vocabulary
    vocabulary.gate.set()


def test_a_grammar_that_takes_long_holds_nobody_up(slow: SlowVocabulary) -> None:
    engine = make_engine()
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
    engine = make_engine()
    for i in range(4):
        engine.add(request(str(i), StructuredOutputs(regex=f"slow{i}"), n=2))
    engine.add(request("good", StructuredOutputs(regex="good")))
    told = [*slow.exceed_budget(engine, num_slow=2), *slow.exceed_budget(engine, num_slow=2)]
    assert sorted((output.request_id, output.sample_index) for output in told) == [
        (str(i), sample) for i in range(4) for sample in range(2)
    ]
    for output in told:
        error = output.error
        assert error is not None
        assert (error.code, error.param) == ("grammar_error", "structured_outputs")
        assert error.stage == "validate", "the caller's mistake, not the engine's"
        assert error.message == "structured_outputs took longer than 60 s to compile; simplify them"
    assert finish(engine)["good", 0].text == "good"


def test_a_grammar_that_comes_too_late_is_there_for_later_rows(slow: SlowVocabulary) -> None:
    engine = make_engine()
    form = StructuredOutputs(regex="slow")
    engine.add(request("first", form))
    [output] = slow.exceed_budget(engine, num_slow=1)
    assert "longer than 60 s to compile" in str(output.error)
    slow.gate.set()
    wait_for_compilers()
    assert run(engine, request("later", form))["later", 0].text == "slow"


def test_a_row_may_be_taken_back_while_its_grammar_is_made(slow: SlowVocabulary) -> None:
    engine = make_engine()
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
    wait_for_compilers()
    outputs = engine.step()
    assert len(outputs) == 4
    for output in outputs:
        assert output.error is not None
        assert output.error.code == "grammar_error"
        assert "PanicException: index out of bounds" in output.error.message
