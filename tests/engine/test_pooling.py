"""A pooled prompt gives the vector that transformers gives, however it is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification
from transformers.models.gemma2 import Gemma2Config
from transformers.models.llama import LlamaConfig
from transformers.models.qwen3 import Qwen3Config

from penstock import LLM, SamplingParams
from penstock.engine.batch import StepBatch
from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import FinishReason, Request, StepOutput
from penstock.engine.pooling import PooledPart, Pooler, Pooling, PoolingKind

from .checkpoints import SMALL, TinyModel
from .fake_runner import NAN, POISON, FakeRunner
from .test_models import random_prompt
from .tiny_tokenizers import byte_level

PROMPTS = [random_prompt(length, seed=length) for length in (67, 5, 33, 1, 100)]
PROMPTS += [PROMPTS[0][:48] + random_prompt(9, seed=1), PROMPTS[0]]  # what the cache may hold


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = TinyModel(Qwen3Config, {"head_dim": 32}).save(tmp_path_factory.mktemp("qwen3"))
    byte_level()._tokenizer.save_pretrained(directory)
    return directory


def make_llm(directory: Path, **options: Any) -> LLM:
    settings = {"kv_cache_gb": 0.01, "max_num_seqs": 4, "num_threads": 1, **options}
    return LLM(str(directory), dtype="float32", device="cpu", **settings)


@pytest.fixture(scope="module")
def llm(directory: Path) -> LLM:
    return make_llm(directory, max_num_batched_tokens=29)


@pytest.fixture(scope="module")
def hidden_states(directory: Path) -> list[torch.Tensor]:
    model = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    with torch.inference_mode():
        return [model(torch.tensor([prompt])).last_hidden_state[0] for prompt in PROMPTS]


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_are_those_of_transformers(
    llm: LLM, hidden_states: list[torch.Tensor], pooling: str, normalize: bool
) -> None:
    outputs = llm.embed(PROMPTS, pooling=pooling, normalize=normalize)
    for prompt, states, output in zip(PROMPTS, hidden_states, outputs, strict=True):
        expected = states[-1] if pooling == "last" else states.mean(0)
        if normalize:
            expected = torch.nn.functional.normalize(expected, dim=0)
        assert output.error is None
        assert output.prompt_token_ids == tuple(prompt)
        assert output.embedding.dtype == np.float32
        np.testing.assert_allclose(output.embedding, expected.numpy(), atol=1e-4, rtol=1e-4)
    llm.engine.check()


def test_the_cache_is_read_only_where_it_tells_all(directory: Path) -> None:
    llm = make_llm(directory)
    long = PROMPTS[4]
    llm.generate([long], SamplingParams(temperature=0, max_tokens=2))
    before = llm.engine.stats().cached_tokens
    llm.embed([long], pooling="mean")
    assert llm.engine.stats().cached_tokens == before
    llm.embed([long])
    assert llm.engine.stats().cached_tokens == before + 96


def test_fewer_dimensions_are_cut_off_before_the_length_is_one(llm: LLM) -> None:
    (whole,) = llm.embed([PROMPTS[0]], normalize=False)
    (cut,) = llm.embed([PROMPTS[0]], dimensions=10)
    kept = whole.embedding[:10]
    np.testing.assert_allclose(cut.embedding, kept / np.linalg.norm(kept), rtol=1e-5)
    (refused,) = llm.embed([PROMPTS[0]], dimensions=65)
    assert refused.error is not None
    assert refused.error.message == "dimensions must be at most 64, got 65"
    wrong: list[dict[str, Any]] = [{"dimensions": 0}, {"pooling": "max"}, {"pooling": "score"}]
    for options in wrong:
        with pytest.raises(ValueError, match=r"dimensions must be at least 1|PoolingKind|'mean'"):
            llm.embed([PROMPTS[0]], **options)


def test_one_bad_row_fails_alone(llm: LLM) -> None:
    window = llm.engine.context_window
    prompts: list[Any] = ["Hello", "", [3] * (window + 1), [263], [3] * window, 7, "Hello"]
    outputs = llm.embed(prompts)
    codes = [output.error.code if output.error else None for output in outputs]
    invalid = "invalid_request"
    assert codes == [None, invalid, "context_length_exceeded", invalid, None, invalid, None]
    assert [output.embedding.size for output in outputs] == [64, 0, 0, 0, 64, 0, 64]
    assert (outputs[0].embedding == outputs[-1].embedding).all()
    llm.engine.check()


def test_a_generating_model_gives_no_scores(llm: LLM) -> None:
    (output,) = llm.score(["Hello"])
    assert output.scores == ()
    assert output.error is not None
    assert "the model is no classifier" in output.error.message


@pytest.mark.parametrize(
    ("config_class", "architecture", "options"),
    [
        (LlamaConfig, "LlamaForSequenceClassification", {"num_labels": 1}),
        (Qwen3Config, "Qwen3ForSequenceClassification", {"num_labels": 3, "head_dim": 32}),
        (
            Gemma2Config,
            "Gemma2ForSequenceClassification",
            {"num_labels": 2, "head_dim": 16, "final_logit_softcapping": 1.0},
        ),
        (LlamaConfig, "LlamaForSequenceClassification", {"tie_word_embeddings": True}),
    ],
)
def test_scores_are_those_of_transformers(
    config_class: type, architecture: str, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = config_class(**{**SMALL, **options})
    made = AutoModelForSequenceClassification.from_config(config)
    assert type(made).__name__ == architecture
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    made.save_pretrained(tmp_path)
    byte_level()._tokenizer.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, attn_implementation="eager"
    ).eval()
    llm = make_llm(tmp_path, max_num_batched_tokens=29)
    for prompt, output in zip(PROMPTS, llm.score(PROMPTS), strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0]
        np.testing.assert_allclose(output.scores, expected.numpy(), atol=1e-4, rtol=1e-4)
    (text,) = llm.generate(["Hello"], SamplingParams(max_tokens=1))
    assert text.error is not None
    assert "the model is a classifier" in text.error.message
    (embedded,) = llm.embed([PROMPTS[0]])
    assert embedded.error is None
    llm.engine.check()


# -- in the engine, among others, with a model that costs nothing -------------------------------


def make_engine(**options: Any) -> Engine:
    runner = FakeRunner(num_blocks=options.pop("num_blocks", 64))
    config = EngineConfig(device="cpu", max_num_seqs=8, max_num_batched_tokens=24, **options)
    return Engine(config, runner=runner, tokenizer=byte_level())


def finish(engine: Engine) -> dict[str, list[StepOutput]]:
    outputs: dict[str, list[StepOutput]] = {}
    while engine.has_work:
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
        engine.check()
    return outputs


def pooled(name: str, prompt: list[int], kind: PoolingKind, priority: int = 100) -> Request:
    pooling = Pooling(kind, normalize=False)
    return Request(name, tuple(prompt), SamplingParams(), priority=priority, pooling=pooling)


@pytest.mark.parametrize("async_steps", [False, True])
@pytest.mark.parametrize("num_blocks", [64, 14])  # so few that rows are preempted
def test_rows_that_generate_and_rows_that_are_pooled_share_steps(
    async_steps: bool, num_blocks: int
) -> None:
    prompts = [random_prompt(20 + 7 * i, seed=i) for i in range(12)]
    prompts = [[i for i in prompt if i not in {NAN, POISON}] for prompt in prompts]
    greedy = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    alone = {}
    for mixed in (False, True):
        engine = make_engine(async_steps=async_steps, num_blocks=num_blocks)
        for place, prompt in enumerate(prompts):
            kind = (PoolingKind.LAST, PoolingKind.MEAN)[place % 2]
            engine.add(pooled(f"p{place}", prompt, kind))
            if mixed:
                engine.add(Request(f"g{place}", tuple(prompt), greedy, stream_interval=0))
        outputs = finish(engine)
        vectors = {name: outputs[name][0].pooled for name in outputs if name.startswith("p")}
        assert all(len(outputs[name]) == 1 for name in vectors)
        assert all(outputs[name][0].token_ids == () for name in vectors)
        assert all(outputs[name][0].finish_reason is FinishReason.STOP for name in vectors)
        if mixed:
            assert vectors == alone
            assert engine.stats().preemptions > 0 or num_blocks == 64
            assert engine.stats().generated_tokens == 12 * 30
        alone = vectors


def test_a_prompt_halved_for_want_of_memory_gives_the_same_vector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = [i for i in random_prompt(90, seed=9) if i not in {NAN, POISON}]
    found = []
    for limit in (100, 7):
        engine = make_engine()
        execute = FakeRunner.execute

        def limited(
            self: FakeRunner, batch: StepBatch, limit: int = limit, execute: Any = execute
        ) -> torch.Tensor:
            if batch.num_tokens > limit:
                raise MemoryError
            return execute(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(FakeRunner, "execute", limited)
            engine.add(pooled("mean", prompt, PoolingKind.MEAN))
            engine.add(pooled("last", prompt, PoolingKind.LAST))
            outputs = finish(engine)
        found.append([outputs[name][0].pooled for name in ("mean", "last")])
        assert (engine.stats().memory_errors > 0) == (limit == 7)
    assert found[0] == found[1]


def test_prompts_of_one_token_do_not_disturb_who_repeats_steps() -> None:
    greedy = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    found = []
    for has_company in (False, True):
        engine = make_engine(steps_per_turn=4)
        engine.add(Request("text", (5, 6, 9), greedy, stream_interval=0))
        told = engine.step()
        if has_company:
            pooling = Pooling(PoolingKind.LAST, normalize=False)
            engine.add(Request("one", (4,), greedy, stream_interval=0, pooling=pooling))
        outputs = finish(engine)
        assert not has_company or outputs["one"][0].pooled is not None
        found.append([*told, *outputs["text"]])
    assert found[0] == found[1]


def test_what_is_computed_again_counts_once() -> None:
    pooler = Pooler(Pooling(PoolingKind.MEAN, normalize=False), 4)
    first = PooledPart(range(2), np.array([6.0]))
    with pytest.raises(ValueError, match="has not been computed to its end"):
        pooler.vector()
    pooler.add([first, first, PooledPart(range(2, 4), np.array([2.0]))])
    assert pooler.vector() == (2.0,)


def test_whatever_fails_in_a_pooled_row_fails_it_alone() -> None:
    engine = make_engine()
    good = random_prompt(30, seed=5)
    engine.add(pooled("good", good, PoolingKind.MEAN))
    engine.add(pooled("raises", [3, POISON, 3], PoolingKind.LAST))
    engine.add(pooled("good too", good, PoolingKind.LAST))
    outputs = finish(engine)
    assert outputs["raises"][0].error is not None
    assert outputs["raises"][0].pooled is None
    assert outputs["good"][0].pooled is not None
    assert outputs["good too"][0].pooled is not None


def test_a_prompt_to_be_pooled_may_fill_the_window_and_one_too_long_says_so() -> None:
    engine = make_engine(num_blocks=5)
    assert engine.context_window == 64
    assert engine.add(pooled("fits", [20] * 64, PoolingKind.MEAN)) is None
    output = engine.add(pooled("long", [20] * 65, PoolingKind.MEAN))
    assert output is not None
    assert output.error is not None
    assert output.error.message == (
        "prompt is too long: this model's maximum context length is 64 tokens "
        "(by max_model_len or the key-value cache), got 65"
    )


def test_a_pooled_row_can_be_taken_back() -> None:
    engine = make_engine()
    engine.add(pooled("long", random_prompt(200), PoolingKind.MEAN))
    engine.step()
    engine.abort("long")
    (output,) = finish(engine)["long"]
    assert output.finish_reason is FinishReason.ABORT
    assert output.pooled is None
