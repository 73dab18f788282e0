"""What a dry run tells of rows: exact where it says so, and honest where it does not."""

from typing import Any

import pytest
from transformers import AutoTokenizer

from penstock.engine.model_place import resolve_model
from penstock.jobs import dry_run, dry_run_model
from penstock.jobs.dry_run import DryRun
from penstock.jobs.dry_run_model import ModelAtHand, NoModelAtHand, model_at_hand
from penstock.jobs.dry_run_report import MAX_KINDS, DryRunReport
from penstock.jobs.errors import InvalidJob
from penstock.jobs.inputs import rows_input
from penstock.jobs.model import EMBED, TaskSpec
from penstock.jobs.row_request import row_request
from penstock.jobs.submit_request import SubmitRequest

DEMO = "penstock-demo"
FAKE = "fake:context=40;chat=0"  # a token is a character
FINE = {"type": "string"}
NEVER = {"type": "string", "minLength": 5, "maxLength": 2}


def at_hand(name: str) -> ModelAtHand:
    return model_at_hand(name, context_window=None, max_model_len=None, tool_format="auto")


@pytest.fixture(scope="module")
def demo() -> ModelAtHand:
    return at_hand(DEMO)


def report_on(
    rows: list[Any],
    model: ModelAtHand | None = None,
    *,
    id_column: str | None = None,
    exact_rows: int = 100_000,
    **task: Any,
) -> DryRunReport:
    request = SubmitRequest(TaskSpec(**{"model": FAKE, **task}), id_column=id_column)
    run = DryRun(request, model or at_hand(FAKE), exact_rows=exact_rows)
    for item in rows_input(rows):
        run.take(item)
    return run.report(complete=True)


def with_form(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return {"body": {"prompt": "x", "response_format": form}}


class TestTokens:
    def test_prompts_are_counted_as_transformers_counts_them(self, demo: ModelAtHand) -> None:
        rows = [{"text": "water " * n + "é 漢字 <|im_end|>"} for n in range(40)]
        found = report_on(rows, demo, prompt="Say {{ row.text }}", sampling={"max_tokens": 7})
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(DEMO))
        counts = [
            len(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": f"Say {row['text']}"}],
                    add_generation_prompt=True,
                    return_dict=True,
                )["input_ids"]
            )
            for row in rows
        ]
        assert found.input_tokens is not None
        assert found.input_tokens.exact
        assert found.input_tokens.total == sum(counts)
        assert found.input_tokens.longest == max(counts)
        assert (found.answers, found.output_at_most) == (40, 40 * 7)
        assert found.is_fine

    def test_rows_over_the_context_are_named(self) -> None:
        rows = [{"prompt": "x" * size} for size in (10, 39, 40, 36, 900)]
        found = report_on(rows, sampling={"max_tokens": 5})
        assert [(row.line, row.tokens) for row in found.too_long.rows] == [(3, 40), (5, 900)]
        assert (found.too_long.count, found.too_long.context_window) == (2, 40)
        assert found.too_long.cut_short == 2  # 39 leave room for one token, 36 for four
        assert found.output_at_most == 5 + 1 + 4
        assert (found.num_bad, found.is_fine) == (2, False)

    def test_a_vector_needs_no_room_for_an_answer(self) -> None:
        found = report_on([{"prompt": "x" * 40}, {"prompt": "x" * 41}], endpoint=EMBED)
        assert [row.line for row in found.too_long.rows] == [2]
        assert (found.answers, found.output_at_most) == (0, 0)

    def test_each_sample_is_an_answer(self) -> None:
        found = report_on([{"prompt": "x"}] * 3, sampling={"n": 4, "max_tokens": 2})
        assert (found.answers, found.output_at_most) == (12, 24)

    def test_behind_the_first_rows_a_sample_stands_for_all(self) -> None:
        model = at_hand("fake:context=100000;chat=0")
        rows = [{"prompt": f"{n} " + "x" * (n % 300)} for n in range(6_000)]
        rows[5_000] = {"prompt": "y" * 100_000}
        found = report_on(rows, model, exact_rows=500)
        exact = report_on(rows, model)
        assert found.input_tokens is not None
        assert exact.input_tokens is not None
        assert (found.input_tokens.exact, exact.input_tokens.exact) == (False, True)
        assert 600 < found.input_tokens.counted_rows < 1_000
        assert found.input_tokens.total == pytest.approx(exact.input_tokens.total, rel=0.1)
        assert found.too_long == exact.too_long  # what may be too long is always counted
        assert exact.too_long.count == 1

    def test_what_prompts_share_is_counted_in_whole_blocks(self) -> None:
        shared = "s" * 100
        prompts = [shared + "a" * 60, shared + "b" * 60, shared[:32], shared[:33], "t" + shared]
        model = at_hand("fake:context=1000;chat=0")
        found = report_on([{"prompt": prompt} for prompt in prompts], model)
        seen, saved = set[str](), 0
        for prompt in prompts:
            for end in range(16, len(prompt), 16):
                saved += 16 * (prompt[:end] in seen)
                seen.add(prompt[:end])
        assert found.prefix_reuse is not None
        assert found.prefix_reuse.tokens == saved == 96 + 16 + 32
        assert found.prefix_reuse.of_tokens == sum(map(len, prompts))

    def test_without_a_tokenizer_the_rest_is_told(self) -> None:
        request = SubmitRequest(TaskSpec(FAKE, "{{ row.t }}", sampling={"max_tokens": 3}))
        run = DryRun(request, None, ("tokens: nobody can count",))
        for item in rows_input([{"t": "a"}, {"t": "a"}, {}]):
            run.take(item)
        found = run.report(complete=True)
        assert (found.input_tokens, found.prefix_reuse, found.output_at_most) == (None, None, 6)
        assert (found.duplicates.count, found.row_errors.count) == (1, 1)
        assert found.unchecked == ["tokens: nobody can count"]

    def test_the_context_is_what_workers_say_or_else_the_models_own(self) -> None:
        def context(name: str, said: int | None, most: int | None) -> int | None:
            return model_at_hand(
                name, context_window=said, max_model_len=most, tool_format="auto"
            ).context_window

        assert [context(DEMO, *said) for said in ((None, None), (None, 99), (50, 99))] == [
            1024,
            99,
            50,
        ]
        assert (context(FAKE, None, None), context(FAKE, 7, None)) == (40, 7)

    @pytest.mark.parametrize("name", ["/nowhere", "fake:nope=1", ""])
    def test_a_model_that_is_not_here_is_said_so(self, name: str) -> None:
        with pytest.raises(NoModelAtHand):
            at_hand(name)


class TestRows:
    def test_what_is_wrong_is_grouped_with_its_lines(self) -> None:
        rows = [{"t": "a"}, {"u": 1}, {"t": None}, {"u": 2}]
        found = report_on(rows, prompt="{{ row.t }}", endpoint="/v1/completions")
        kinds = [(kind.code, kind.count, kind.lines) for kind in found.row_errors.kinds]
        assert kinds == [("template_error", 2, [2, 4]), ("template_error", 1, [3])]
        assert "'t'" in found.row_errors.kinds[0].message
        assert "null" in found.row_errors.kinds[1].message
        assert found.refusal is None

    def test_what_nobody_foresaw_is_one_rows_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def odd(task: TaskSpec, params: Any, row: Any, custom_id: str | None) -> Any:
            if row["t"] == "b":
                raise RuntimeError("a surprise")
            return row_request(task, params, row, custom_id)

        monkeypatch.setattr(dry_run, "row_request", odd)
        found = report_on([{"t": "a"}, {"t": "b"}, {"t": "c"}], prompt="{{ row.t }}")
        [kind] = found.row_errors.kinds
        assert (kind.code, kind.message, kind.lines) == (
            *("internal_error", "RuntimeError: a surprise", [2]),
        )
        assert (found.rows, found.answers, found.complete) == (3, 2, True)

    def test_errors_of_ever_new_kinds_stay_bounded(self) -> None:
        rows = [{"body": {f"nope{n}": 1, "prompt": "x"}} for n in range(3 * MAX_KINDS)]
        faults = report_on(rows).row_errors
        assert faults.count == 3 * MAX_KINDS
        assert len(faults.kinds) == MAX_KINDS + 1
        assert faults.kinds[0].code == "other"
        assert faults.kinds[0].count == 2 * MAX_KINDS

    def test_requests_and_ids_that_come_again_are_named(self) -> None:
        rows = [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}, {"id": 2, "t": "a"}, {"id": 3, "t": "a"}]
        found = report_on(rows, prompt="Say {{ row.t }}", id_column="id")
        repeats = [(repeat.line, repeat.same_as) for repeat in found.duplicates.examples]
        assert repeats == [(3, 1), (4, 1)]
        assert found.duplicates.count == 2
        [repeat] = found.duplicate_ids.examples
        assert (repeat.line, repeat.same_as, repeat.id) == (3, 2, "2")
        assert found.is_fine  # it may be meant so

    def test_another_wish_makes_another_request(self) -> None:
        ask = {"prompt": "x", "model": FAKE}
        rows = [{"body": {**ask, "temperature": 0.5}}, {"body": ask}, {"body": {**ask, "seed": 1}}]
        assert report_on(rows).duplicates.count == 0
        assert report_on([*rows, rows[0]]).duplicates.count == 1

    def test_a_form_that_nothing_has_is_found(self, demo: ModelAtHand) -> None:
        found = report_on([with_form(FINE), with_form(NEVER), with_form(NEVER)], demo)
        [kind] = found.row_errors.kinds
        assert (kind.code, kind.param, kind.lines) == (
            "invalid_request",
            "structured_outputs",
            [2, 3],
        )
        assert "cannot be fulfilled" in kind.message

    def test_no_number_of_forms_is_too_many_to_look_at(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dry_run_model, "MAX_FORMS", 2)
        demo = at_hand(DEMO)  # which has seen no form yet
        fine = [with_form({**FINE, "maxLength": n}) for n in range(1, 6)]
        [kind] = report_on(
            [*fine, with_form(NEVER), *fine, with_form(NEVER)], demo
        ).row_errors.kinds
        assert kind.lines == [6, 12]


class TestRefusal:
    @pytest.mark.parametrize(
        ("rows", "task", "param", "says"),
        [
            ([{"a": 1}], {"prompt": "{{ row.b }}"}, "prompt", "no column 'b'"),
            ([{"a": 1}], {}, "prompt", "give a prompt or messages template"),
            ([7], {"prompt": "x"}, "input", "no usable rows: line 1 must be a JSON object"),
        ],
    )
    def test_what_submission_would_refuse_is_told(
        self, rows: list[Any], task: dict[str, Any], param: str, says: str
    ) -> None:
        refusal = report_on(rows, **task).refusal
        assert refusal is not None
        assert refusal.param == param
        assert says in refusal.message

    def test_what_no_input_can_mend_is_refused_at_once(self) -> None:
        with pytest.raises(InvalidJob, match="the template cannot be used"):
            report_on([], prompt="{{ row.")
