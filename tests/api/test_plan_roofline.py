"""Bytes, operations and times of steps, worked out by hand, and how they move with the load."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from penstock.api import cpu_hardware
from penstock.api.hardware import (
    Hardware,
    NumberType,
    Support,
    UnknownHardware,
    find_gpu,
    known_gpus,
)
from penstock.api.planner_load import Load, Work, largest_batch
from penstock.api.planner_measured import OURS, Shares, measurements
from penstock.api.planner_memory import GIB, fitting_rows, share_out
from penstock.api.planner_models import find_shape
from penstock.api.planner_roofline import Numbers, Roofline, least_seconds

BF16, FP8, INT8 = NumberType.BF16, NumberType.FP8, NumberType.INT8
IN_BF16 = Numbers(layers=BF16, others=BF16)


def roofline(model: str, gpu: str = "H200", numbers: Numbers = IN_BF16) -> Roofline:
    return Roofline.on(find_gpu(gpu), find_shape(model), numbers)


def load(model: str, work: Work, **more: Any) -> Load:
    options = {"step_tokens": 8192, "reads_shared_once": True, **more}
    return Load(roofline=roofline(model), work=work, **options)


@pytest.mark.parametrize(
    ("model", "layers", "kv_heads", "head_dim"),
    [("Qwen2.5-0.5B", 24, 2, 64), ("Qwen3-0.6B", 28, 8, 128), ("Llama-3.1-8B", 32, 8, 128)],
)
def test_bytes_of_a_cached_token(model: str, layers: int, kv_heads: int, head_dim: int) -> None:
    for size in (1, 2):
        numbers = Numbers(layers=BF16, others=BF16, cache_bytes=size)
        expected = 2 * layers * kv_heads * head_dim * size
        assert roofline(model, numbers=numbers).token_bytes == expected
    padded = Numbers(layers=BF16, others=BF16, head_dim=2 * head_dim)
    assert roofline(model, numbers=padded).token_bytes == 2 * 2 * layers * kv_heads * head_dim * 2


def test_a_decode_step_of_qwen3_0_6b_by_hand() -> None:
    """256 rows of 1,024 tokens on an H200: bound by the cache, as its kernels' table says."""
    layer = 1024 * (16 + 2 * 8) * 128 + 16 * 128 * 1024 + 3 * 1024 * 3072
    head = 1024 * 151_936
    step = roofline("Qwen3-0.6B").decode(256, 256 * 1024)
    assert step.weight_bytes == 2 * (28 * layer + head)
    assert step.cache_bytes == 256 * 1024 * 112 * 1024
    assert step.logit_bytes == 256 * 151_936 * 8
    products = 2 * 256 * (28 * layer + head)
    assert step.operations == products + 4 * 28 * 16 * 128 * 256 * 1024
    speed, rate = 0.9 * 4.8e12, 0.8 * 989.4e12
    weights_s = max(step.weight_bytes / speed, products / rate)
    assert step.seconds == pytest.approx(
        weights_s + (step.cache_bytes + step.logit_bytes) / speed, rel=1e-12
    )
    assert step.seconds == pytest.approx(7.35e-3, rel=0.02)
    assert step.bound_by == "cache"


def test_a_decode_step_of_llama_3_1_8b_by_hand() -> None:
    layer = 4096 * (32 + 2 * 8) * 128 + 32 * 128 * 4096 + 3 * 4096 * 14_336
    weights = 32 * layer + 4096 * 128_256
    alone = roofline("Llama-3.1-8B").decode(1, 100)
    assert alone.weight_bytes == 2 * weights == pytest.approx(15.0e9, rel=0.01)
    assert alone.bound_by == "weights"
    assert alone.seconds == pytest.approx(15.0e9 / 4.32e12, rel=0.01)
    many = roofline("Llama-3.1-8B").decode(1000, 1000)
    assert many.bound_by == "products"
    assert many.seconds == pytest.approx(2 * weights * 1000 / 791.5e12, rel=0.03)


def test_a_prefill_step_of_qwen2_5_0_5b_by_hand() -> None:
    layer = 896 * (14 + 2 * 2) * 64 + 14 * 64 * 896 + 3 * 896 * 4864
    step = roofline("Qwen2.5-0.5B").prefill(8192, 8 * 1024 * 1024 / 2, 8)
    attention = 4 * 24 * 14 * 64 * 8 * 1024 * 1024 / 2
    operations = 2 * 24 * layer * 8192 + attention + 2 * 896 * 151_936 * 8
    assert step.operations == operations
    assert step.seconds == pytest.approx(operations / (0.8 * 989.4e12), rel=1e-12)
    assert step.bound_by == "products"


def test_experts_that_nobody_chose_are_not_read() -> None:
    sparse = roofline("Qwen3-30B-A3B")
    one = sparse.decode(1, 0).weight_bytes
    assert one == 2 * (sparse.shape.active_layer_weights + sparse.shape.head_weights)
    assert sparse.decode(1, 0).operations == pytest.approx(one)  # two for each weight of two bytes
    assert one < sparse.decode(8, 0).weight_bytes < sparse.decode(256, 0).weight_bytes
    assert sparse.decode(256, 0).weight_bytes < sparse.weight_bytes


def test_eight_bits_halve_what_is_read() -> None:
    eight = Numbers(layers=FP8, others=BF16, cache_bytes=1)
    step, whole = roofline("Qwen3-8B", numbers=eight).decode(64, 64_000), roofline("Qwen3-8B")
    assert step.cache_bytes == whole.decode(64, 64_000).cache_bytes / 2
    shape = whole.shape
    assert step.weight_bytes == shape.layer_weights + 2 * shape.head_weights
    saved = whole.weight_bytes - roofline("Qwen3-8B", numbers=eight).weight_bytes
    assert saved == shape.layer_weights


def test_a_type_that_a_gpu_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="A10 multiplies bf16, fp16, int8, got fp8"):
        roofline("Qwen3-8B", "A10", Numbers(layers=FP8, others=BF16))


def test_rows_of_one_length_take_what_the_steps_add_up_to() -> None:
    lengths = ([100] * 8, [5] * 8)
    line = roofline("Qwen3-0.6B")
    steps = [line.decode(8, 8 * (100 + place)).seconds for place in range(1, 5)]
    prompts = line.prefill(800, 8 * 100 * 100 / 2, 8).seconds
    assert least_seconds(line, *lengths) == pytest.approx(prompts + sum(steps), rel=1e-9)


def test_a_turn_of_a_batch_and_littles_law() -> None:
    work = Work(num_rows=1000, prompt_tokens=512, answer_tokens=256)
    cost = load("Qwen3-8B", work).at(64)
    prompts_s = 64 / 16 * roofline("Qwen3-8B").prefill(8192, 16 * 512 * 512 / 2, 16).seconds
    decode_s = roofline("Qwen3-8B").decode(64, 64 * (512 + 128)).seconds
    assert cost.turn_s == pytest.approx(prompts_s + 255 * decode_s, rel=1e-9)
    assert cost.rows_per_s * cost.turn_s == pytest.approx(64)
    assert cost.tokens_per_s * cost.itl_s == pytest.approx(64)
    one_prompt_s = roofline("Qwen3-8B").prefill(512, 512 * 512 / 2, 1).seconds
    assert cost.ttft_s == pytest.approx(2 * decode_s + one_prompt_s, rel=1e-9)


def test_a_common_prefix_is_computed_and_read_once() -> None:
    plain = Work(num_rows=1000, prompt_tokens=512, answer_tokens=256)
    shared = Work(num_rows=1000, prompt_tokens=512, answer_tokens=256, shared_tokens=300)
    assert shared.cached_tokens == 288  # whole blocks
    alone, together = load("Qwen3-0.6B", plain).at(64), load("Qwen3-0.6B", shared).at(64)
    saved = alone.decode.cache_bytes - together.decode.cache_bytes
    assert saved == pytest.approx(63 * 288 * 112 * 1024)
    assert together.row_prefill_s < 0.5 * alone.row_prefill_s
    many = load("Qwen3-0.6B", shared, reads_shared_once=False).at(64)
    assert many.decode.cache_bytes == alone.decode.cache_bytes


WORKS = st.builds(
    Work,
    num_rows=st.integers(1, 10**7),
    prompt_tokens=st.integers(1, 8000),
    answer_tokens=st.integers(1, 4000),
)
MODELS = st.sampled_from(["Qwen3-0.6B", "Llama-3.1-8B", "Qwen3-30B-A3B", "google/gemma-2-9b"])


@settings(max_examples=60, deadline=None)
@given(MODELS, WORKS, st.integers(1, 2000), st.integers(1, 2000))
def test_more_rows_at_once_are_never_slower_nor_sooner(
    model: str, work: Work, first: int, second: int
) -> None:
    few, many = (load(model, work).at(batch) for batch in sorted((first, second)))
    assert many.tokens_per_s >= few.tokens_per_s * (1 - 1e-9)
    assert many.itl_s >= few.itl_s * (1 - 1e-9)
    assert many.ttft_s >= few.ttft_s * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(MODELS, WORKS, st.integers(1, 500), st.integers(1, 500))
def test_longer_rows_are_never_quicker(
    model: str, work: Work, more_prompt: int, more_answer: int
) -> None:
    longer = Work(
        num_rows=work.num_rows,
        prompt_tokens=work.prompt_tokens + more_prompt,
        answer_tokens=work.answer_tokens + more_answer,
    )
    assert load(model, longer).at(64).rows_per_s < load(model, work).at(64).rows_per_s


@settings(max_examples=60, deadline=None)
@given(MODELS, WORKS, st.floats(1e-4, 1.0), st.floats(1e-4, 10.0), st.floats(0.3, 1.0))
def test_the_largest_batch_keeps_the_budget_and_the_next_does_not(
    model: str, work: Work, itl_s: float, ttft_s: float, share: float
) -> None:
    one = load(model, work)

    def keeps(batch: int) -> bool:
        cost = one.at(batch)
        return cost.itl_s / share <= itl_s and cost.ttft_s / share <= ttft_s

    found = largest_batch(one, 300, ttft_s=ttft_s, itl_s=itl_s, share=share)
    if found is None:
        assert not keeps(1)
    else:
        assert keeps(found)
        assert found == 300 or not keeps(found + 1)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(known_gpus()), MODELS, st.integers(16, 8000), st.integers(1, 4096))
def test_what_fits_fits_and_one_more_does_not(
    gpu: Hardware, model: str, row_tokens: int, most: int
) -> None:
    line = Roofline.on(gpu, find_shape(model), IN_BF16)
    rows = fitting_rows(
        gpu, line, row_tokens=row_tokens, shared_tokens=0, step_tokens=8192, most=most
    )
    assert 0 <= rows <= most
    if rows:
        room = share_out(gpu, line, rows, 8192)
        assert room.cache_bytes >= rows * row_tokens * line.token_bytes
        parts = room.weight_bytes + room.step_bytes + room.other_bytes + room.cache_bytes
        assert parts == room.total_bytes
        assert room.missing_bytes(row_tokens) == 0
    if rows < most:
        room = share_out(gpu, line, rows + 1, 8192)
        assert room.max_rows(row_tokens) < rows + 1
    if not rows:
        assert share_out(gpu, line, 1, 8192).missing_bytes(row_tokens) > 0


def test_the_cache_of_an_h200_by_hand() -> None:
    room = share_out(find_gpu("H200"), roofline("Llama-3.1-8B"), 256, 8192)
    assert room.weight_bytes == 2 * 8_030_261_248
    assert room.cache_tokens % 16 == 0
    assert room.cache_tokens == (room.cache_bytes // (16 * 2**17) - 1) * 16  # one block is empty
    assert 0.9e6 < room.cache_tokens < 1.0e6  # 140.4 GiB, less weights, a step, graphs, spare


def test_a_cpu_keeps_a_quarter_of_what_is_free() -> None:
    small = share_out(a_cpu(memory_mib=2048), roofline("Qwen2.5-0.5B"), 64, 512)
    assert small.cache_bytes == (2 * GIB - small.weight_bytes) // 4
    assert share_out(a_cpu(), roofline("Qwen2.5-0.5B"), 64, 512).cache_bytes == 4 * GIB


def a_cpu(memory_mib: int = 65_536) -> Hardware:
    return Hardware(
        name="cpu",
        memory_mib=memory_mib,
        bytes_per_s=30e9,
        operations_per_s={NumberType.FP32: 1e12},
        capability=None,
        watts=None,
        source="a test",
        is_gpu=False,
        copy_share=1.0,
        product_share=1.0,
    )


class TestHardware:
    def test_names_are_found_however_they_are_written(self) -> None:
        for typed in ("h100-sxm", "H100 SXM", "h100"):
            assert find_gpu(typed).name == "H100-SXM"
        assert len({gpu.name for gpu in known_gpus()}) == len(known_gpus()) >= 12

    def test_an_unknown_name_is_told_its_neighbours(self) -> None:
        with pytest.raises(UnknownHardware, match="did you mean H200"):
            find_gpu("H201")
        with pytest.raises(UnknownHardware, match="--gpu list"):
            find_gpu("abacus")

    def test_what_runs_where(self) -> None:
        assert find_gpu("A100").support is find_gpu("H200").support is Support.COMPILED
        assert find_gpu("L4").support is find_gpu("B200").support is Support.LIKELY
        assert find_gpu("MI300X").support is Support.NONE

    def test_an_h200_reaches_what_was_measured(self) -> None:
        gpu = find_gpu("H200")
        assert gpu.reachable_bytes_per_s == pytest.approx(4.3e12, rel=0.01)
        assert gpu.reachable_operations_per_s(BF16) == pytest.approx(790e12, rel=0.01)
        assert find_gpu("A10").reachable_operations_per_s(FP8) is None

    def test_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = cpu_hardware.this_cpu(20e9)
        assert cpu.bytes_per_s == cpu.reachable_bytes_per_s == 20e9
        assert not cpu.is_gpu
        assert cpu.memory_mib > 100
        monkeypatch.setattr(cpu_hardware, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
        monkeypatch.setattr(cpu_hardware, "num_cores", lambda: 2)
        assert cpu_hardware.this_cpu(20e9).operations_per_s[BF16] == 968e9
        assert cpu_hardware.has_fast_bf16(cpu_hardware.this_cpu(20e9))
        monkeypatch.setattr(cpu_hardware, "cpu_flags", lambda: frozenset({"avx2"}))
        assert not cpu_hardware.has_fast_bf16(cpu_hardware.this_cpu(20e9))

    def test_the_probe_finds_a_memory(self) -> None:
        assert 1e8 < cpu_hardware.probe_bytes_per_s(1) < 1e13


class TestMeasured:
    def test_peers_reach_what_was_worked_out_from_their_figures(self) -> None:
        shares = {
            (one.engine, one.work.answer_tokens, one.hardware.name, one.model): one.share
            for one in measurements(on_gpus=True)
        }
        assert shares["SGLang, FlashInfer", 1024, "H200", "Qwen3-8B"] == pytest.approx(
            0.76, abs=0.01
        )
        assert shares["SGLang, Triton", 1024, "H200", "Qwen3-8B"] == pytest.approx(0.64, abs=0.01)
        tensorrt = shares["TensorRT-LLM 1.0", 1000, "H200", "Llama-3.1-8B"]
        assert tensorrt == pytest.approx(0.75, abs=0.01)

    def test_nothing_of_ours_is_claimed_on_a_gpu(self) -> None:
        assert OURS not in {one.engine for one in measurements(on_gpus=True)}
        assert {one.engine for one in measurements(on_gpus=False)} == {OURS}

    def test_shares_are_shares(self) -> None:
        for on_gpus in (True, False):
            shares = Shares.of(measurements(on_gpus=on_gpus))
            assert 0.4 < shares.least < shares.median < 1
