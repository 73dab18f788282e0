"""`penstock plan`: what it foretells, what it says when something does not fit, how it prints."""

import json
import subprocess
import sys

import pytest

from penstock.api.hardware import NumberType, find_gpu
from penstock.api.planner import Budget, DoesNotFit, plan
from penstock.api.planner_load import Work

from .command import Penstock

WORK = Work(num_rows=1_000_000, prompt_tokens=512, answer_tokens=256)
QWEN = ("plan", "--model", "Qwen/Qwen3-8B", "--gpu", "H200")


class TestPlan:
    def test_a_million_rows_on_an_h200(self) -> None:
        found = plan("Qwen3-8B", "H200", WORK, price_per_hour=4.0)
        assert found.chosen.batch == 256
        assert found.least_s == pytest.approx(1e6 / 256 * found.chosen.turn_s)
        assert found.least_s < found.p50_s < found.p90_s
        assert found.p50_s == pytest.approx(found.least_s / found.shares.median)
        assert found.cost(3600) == 4.0
        assert found.energy_kwh(3600) == 0.7
        assert found.settings == {"PENSTOCK_MAX_NUM_SEQS": "256"}
        assert [cost.batch for cost in found.sweep][:4] == [1, 2, 4, 8]
        assert found.sweep[-1].batch == found.max_batch
        assert found.longest_step_s == found.prefill.seconds + found.chosen.decode.seconds
        assert found.longest_step_s > 8192 * 2 * 6.9e9 / 791.5e12  # layers alone, full of prompts

    def test_two_devices_halve_the_time_and_not_the_cost(self) -> None:
        one = plan("Qwen3-8B", "H200", WORK, price_per_hour=4.0)
        two = plan("Qwen3-8B", "H200", WORK, price_per_hour=4.0, num_devices=2)
        assert two.least_s == pytest.approx(one.least_s / 2)
        assert two.cost(two.least_s) == pytest.approx(one.cost(one.least_s))
        assert two.energy_kwh(two.least_s) == pytest.approx(one.energy_kwh(one.least_s))

    @pytest.mark.parametrize("num_rows", [1, 8, 9, 100])
    def test_a_row_is_never_divided_among_devices(self, num_rows: int) -> None:
        work = Work(num_rows=num_rows, prompt_tokens=512, answer_tokens=256)
        found = plan("Qwen3-8B", "H200", work, num_devices=8)
        alone = Work(num_rows=-(-num_rows // 8), prompt_tokens=512, answer_tokens=256)
        assert found.least_s == plan("Qwen3-8B", "H200", alone).least_s
        assert found.least_s >= found.chosen.turn_s

    def test_few_rows_make_a_small_batch(self) -> None:
        work = Work(num_rows=10, prompt_tokens=512, answer_tokens=256)
        assert plan("Qwen3-8B", "H200", work).chosen.batch == 10
        assert plan("Qwen3-8B", "H200", work, num_devices=4).chosen.batch == 3

    def test_a_cache_in_eight_bits_holds_twice_as_much(self) -> None:
        plain = plan("Qwen3-8B", "H200", WORK)
        small = plan("Qwen3-8B", "H200", WORK, fp8_cache=True)
        assert small.room.cache_tokens == pytest.approx(2 * plain.room.cache_tokens, rel=1e-3)
        assert small.least_s < plain.least_s
        assert small.settings["PENSTOCK_KV_CACHE_DTYPE"] == "fp8_e4m3"
        with pytest.raises(ValueError, match=r"compute capability 8\.0 has no eight-bit floats"):
            plan("Qwen3-8B", "A100", WORK, fp8_cache=True)

    def test_what_a_latency_costs(self) -> None:
        loose = plan("Qwen3-8B", "H200", WORK, budget=Budget(itl_s=1.0, ttft_s=10.0))
        assert loose.choice is not None
        assert loose.choice.batch == loose.chosen.batch == loose.max_batch
        tight = plan("Qwen3-8B", "H200", WORK, budget=Budget(itl_s=0.012))
        assert tight.choice is not None
        assert tight.choice.batch is not None
        assert 1 < tight.choice.batch == tight.chosen.batch < 256
        assert tight.chosen.itl_s / tight.shares.least <= 0.012
        assert tight.least_s > loose.least_s
        never = plan("Qwen3-8B", "H200", WORK, budget=Budget(itl_s=1e-4))
        assert never.choice is not None
        assert (never.choice.batch, never.choice.kept.batch, never.chosen.batch) == (None, 1, 256)
        assert plan("Qwen3-8B", "H200", WORK, budget=Budget()).choice is None

    def test_by_how_much_it_does_not_fit_and_what_would(self) -> None:
        with pytest.raises(DoesNotFit) as error:
            plan("Llama-3.1-70B", "H100", WORK)
        said = str(error.value)
        assert "weights take 131.4 of 79.6 GiB" in said
        assert "(H200, B200)" in said
        assert "save 63.8 GiB (enough; not there yet on GPUs)" in said
        assert "each holds the whole model" in said
        for name in ("H200", "B200"):  # what is advised does
            assert plan("Llama-3.1-70B", name, WORK).max_batch >= 1
        assert plan("Llama-3.1-70B", "H100", WORK, dtype=NumberType.FP8).max_batch >= 1

    def test_what_the_engine_does_not_have_yet_is_said(self) -> None:
        eight = plan("Qwen3-8B", "H200", WORK, dtype=NumberType.FP8)
        assert any("not there yet on GPUs" in note for note in eight.notes)
        int8 = plan("Qwen3-8B", "H200", WORK, dtype=NumberType.INT8)
        assert "PENSTOCK_QUANTIZATION" not in {**eight.settings, **int8.settings}
        assert any("do not run there" in note for note in plan("Qwen3-8B", "MI300X", WORK).notes)
        assert any("not tried" in note for note in plan("Qwen3-8B", "L40S", WORK).notes)
        assert plan("Qwen3-8B", "A100", WORK).notes == ()

    def test_experts_windows_and_short_steps_have_their_notes(self) -> None:
        def notes(model: str, work: Work = WORK) -> str:
            return " ".join(plan(model, "H200", work).notes)

        assert "experts are chosen evenly" in notes("Qwen3-30B-A3B")
        long = Work(num_rows=1000, prompt_tokens=6000, answer_tokens=1000)
        assert "averaged over layers with windows" in notes("google/gemma-2-9b", long)
        assert "too short for a roofline" in notes("penstock-demo")

    def test_a_cpu_computes_as_the_engine_would(self) -> None:
        work = Work(num_rows=1000, prompt_tokens=128, answer_tokens=64)
        demo = plan("penstock-demo", "cpu", work, cpu_bytes_per_s=30e9)
        assert demo.roofline.numbers.layers is NumberType.FP32  # too small to gain by less
        assert demo.roofline.token_bytes == 2 * 4 * 2 * 32 * 4
        assert demo.chosen.batch == 64
        assert {one.hardware.is_gpu for one in demo.measured} == {False}
        eight = plan("Qwen2.5-0.5B", "cpu", work, dtype=NumberType.INT8, cpu_bytes_per_s=30e9)
        assert eight.settings["PENSTOCK_QUANTIZATION"] == "int8"
        assert {one.layers for one in eight.measured} == {NumberType.INT8}
        assert eight.energy_kwh(3600) is None
        with pytest.raises(ValueError, match=r"cpu multiplies .* got fp8"):
            plan("Qwen2.5-0.5B", "cpu", work, dtype=NumberType.FP8, cpu_bytes_per_s=30e9)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"num_devices": 0}, "num_devices must be at least 1, got 0"),
            ({"batch": 0}, "batch must be at least 1, got 0"),
            ({"batch": 9999}, "batch must be at most .* got 9,999"),
            ({"work": Work(num_rows=1, prompt_tokens=50_000, answer_tokens=1)}, "40,960 tokens"),
        ],
    )
    def test_options_out_of_range(self, options: dict[str, object], said: str) -> None:
        given = {"work": WORK, **options}
        with pytest.raises(ValueError, match=said):
            plan("Qwen3-8B", "H200", **given)  # pyright: ignore[reportArgumentType] - of many types

    @pytest.mark.parametrize(
        ("sizes", "said"),
        [
            ((0, 1, 1, 0), "num_rows must be at least 1, got 0"),
            ((1, 0, 1, 0), "prompt_tokens must be"),
            ((1, 1, 0, 0), "answer_tokens must be"),
            ((1, 5, 1, 5), "shared_tokens must be from 0 to prompt_tokens - 1"),
        ],
    )
    def test_work_out_of_range(self, sizes: tuple[int, int, int, int], said: str) -> None:
        rows, prompt, answer, shared = sizes
        with pytest.raises(ValueError, match=said):
            Work(num_rows=rows, prompt_tokens=prompt, answer_tokens=answer, shared_tokens=shared)


class TestCommand:
    def test_a_pipe_gets_one_object_whose_names_have_units(self, penstock: Penstock) -> None:
        run = penstock(*QWEN, "--rows", 1000, "--price-per-hour", 3.5, "--itl-ms", 20)
        assert run.code == 0, run.err
        [told] = run.lines
        assert told["parameters"] == 8_190_735_360
        assert told["kv_bytes_per_token"] == 147_456
        assert told["batch"] == told["latency"]["batch"] < 256
        assert told["latency"]["itl_ms"] <= 20
        assert 0 < told["latency"]["share_of_throughput"] <= 1
        p50, p90 = told["expected"]
        assert (p50["name"], p90["name"]) == ("p50", "p90")
        assert p50["job_s"] < p90["job_s"]
        assert p50["cost"] == pytest.approx(3.5 * p50["job_s"] / 3600, abs=0.01)
        assert told["measured_here"] is False
        assert {one["engine"] for one in told["measured"]}.isdisjoint({"penstock"})
        parts = sum(told[f"{part}_bytes"] for part in ("weight", "step", "other", "cache"))
        assert parts == told["memory_bytes"]

    def test_a_person_gets_facts_a_plot_and_what_to_set(
        self, penstock: Penstock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "160")
        run = penstock(*QWEN, "--ttft-ms", 300, "--price-per-hour", 3, "-o", "table")
        assert run.code == 0, run.err
        for said in (
            "8,190,735,360 parameters, 16.38 GB with layers in bf16",
            "144 KiB per token",
            "Little's law",
            "longest step",
            "of the roofline, costs",
            "kept up to a batch of",
            "SGLang, FlashInfer",
            "########",
            "********",
        ):
            assert said in run.out
        assert run.out.isascii()
        assert "not measured yet on this GPU" in run.err
        assert "set: PENSTOCK_MAX_NUM_SEQS=" in run.err
        none = penstock(*QWEN, "--itl-ms", 0.1, "-o", "table")
        assert "no batch keeps it" in none.out
        assert "set: " not in none.err
        cpu = penstock(
            "plan", "-m", "penstock-demo", "--gpu", "cpu", "--bandwidth", 30, "--in", 51,
            "-o", "table",
        )  # fmt: skip
        assert cpu.code == 0, cpu.err
        assert "not measured yet" not in cpu.err

    def test_no_figure_is_cut_off_on_a_narrow_terminal(
        self, penstock: Penstock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        [told] = penstock(*QWEN).lines
        table = penstock(*QWEN, "-o", "table").out.splitlines()
        lines = table[next(n for n, line in enumerate(table) if line.startswith("batch")) :]
        assert all(len(line) <= 80 for line in table)
        for cost, line in zip(told["sweep"], lines[1:], strict=False):
            found = [word for word in line.split() if word.strip("#*<")]
            numbers = (cost["batch"], cost["tokens_per_s"], cost["itl_ms"], cost["ttft_ms"])
            shown = [float(word.replace(",", "")) for word in found[:4]]
            assert shown == pytest.approx(numbers, rel=0.02, abs=0.06)
            assert found[4] == cost["bound_by"]

    def test_the_list_of_gpus(self, penstock: Penstock) -> None:
        listed = {line["name"]: line for line in penstock("plan", "--gpu", "list").lines}
        assert listed["H200"]["gb_per_s"] == find_gpu("H200").bytes_per_s / 1e9
        assert "fp8" not in listed["A100-80GB-SXM"]["tflops"]
        table = penstock("plan", "--gpu", "list", "-o", "table")
        assert "RTX-4090" in table.out
        assert "Nothing of ours has been timed on a GPU yet" in table.err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("plan",), "--model is missing"),
            ((*QWEN[:3], "--gpu", "H201"), "did you mean H200"),
            ((*QWEN, "--kv-dtype", "int4"), "--kv-dtype must be auto or fp8, got 'int4'"),
            ((*QWEN, "--itl-ms", "0"), "--itl-ms must be above 0, got 0"),
            ((*QWEN, "--rows", "0"), "--rows must be at least 1, got 0"),
            ((*QWEN, "--out", "-1"), "--out must be at least 1, got -1"),
            ((*QWEN, "--price-per-hour", "-3"), "--price-per-hour must be at least 0, got -3"),
            (("plan", "-m", "Llama-3.1-70B", "--gpu", "L4"), "does not fit on L4"),
        ],
    )
    def test_what_cannot_be_meant(
        self, penstock: Penstock, words: tuple[str, ...], said: str
    ) -> None:
        run = penstock(*words)
        assert (run.code, run.out) == (2, "")
        assert said in run.err
        assert "Traceback" not in run.err


def test_a_plan_loads_no_torch_and_no_weights() -> None:
    script = (
        "import json, sys\n"
        "from penstock.api.planner import plan\n"
        "from penstock.api.planner_load import Work\n"
        "plan('Qwen3-8B', 'H200', Work(num_rows=1, prompt_tokens=1, answer_tokens=1))\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    heavy = {"torch", "transformers", "numpy", "huggingface_hub", "redis", "pyarrow", "celery"}
    assert heavy.isdisjoint(json.loads(run.stdout))
