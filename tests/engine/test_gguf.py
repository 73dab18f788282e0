"""A GGUF file is the same model as the checkpoint it was made from, or is refused with a reason."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.numpy import load_file, save_file
from transformers.models.gemma2 import Gemma2Config
from transformers.models.gemma3 import Gemma3TextConfig
from transformers.models.llama import LlamaConfig

from penstock import LLM, SamplingParams
from penstock.engine.architecture import UnsupportedModel, read_architecture
from penstock.engine.gguf_checkpoint import GgufCheckpoint
from penstock.engine.gguf_header import GgufHeader
from penstock.engine.model_place import DEMO_MODEL, ModelNotFound, resolve_model
from penstock.engine.tokenizer import Tokenizer
from penstock.engine.weights import CorruptCheckpoint

from .checkpoints import TINY_MODELS, TinyModel, judge
from .gguf_files import write_gguf
from .test_models import logits_in_chunks, make_runner, random_prompt
from .tiny_tokenizers import byte_fallback

Checkpoints = Callable[[str], Path]


def assert_same_logits(path: Path, directory: Path) -> None:
    prompts = [random_prompt(67), random_prompt(5, seed=1)]
    model = judge(directory)
    runner = make_runner(path)
    for prompt, found in zip(prompts, logits_in_chunks(runner, prompts, 17), strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0]
        last = [min(end, len(prompt)) - 1 for end in range(17, len(prompt) + 17, 17)]
        torch.testing.assert_close(found, expected[last], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "llama-tied",
        "llama-every-head",
        "llama-attention-bias",
        "llama-linear-rope",
        "llama3-rope",
        "llama-head-104",
        "qwen2",
        "qwen3",
        "phi3",
        "qwen3-moe",
    ],
)
def test_logits_are_those_of_the_checkpoint(
    name: str, tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    directory = tiny_checkpoint(name)
    assert_same_logits(write_gguf(directory, tmp_path / "model.gguf"), directory)


@pytest.mark.parametrize(
    ("config_class", "options"),
    [
        (Gemma2Config, {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
        (Gemma2Config, {"num_hidden_layers": 46, "query_pre_attn_scalar": 16, "head_dim": 32}),
        (Gemma3TextConfig, {"num_hidden_layers": 7, "final_logit_softcapping": None}),
    ],
)
def test_what_llama_cpp_takes_for_granted_is_known(
    config_class: type, options: dict[str, Any], tmp_path: Path
) -> None:
    sizes = {"sliding_window": 24, "head_dim": 16, "query_pre_attn_scalar": 16, **options}
    directory = TinyModel(config_class, sizes, noise=0.1).save(tmp_path / "checkpoint")
    assert_same_logits(write_gguf(directory, tmp_path / "model.gguf"), directory)


@pytest.mark.parametrize(
    "kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]
)
def test_quantized_weights_are_those_that_llama_cpp_would_use(kind: Kind, tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    directory = TinyModel(LlamaConfig, sizes).save(tmp_path / "checkpoint")
    path = write_gguf(directory, tmp_path / "model.gguf", kind)
    weights = directory / "model.safetensors"
    rounded = {
        name: gguf.dequantize(gguf.quantize(values, kind), kind) if values.ndim > 1 else values
        for name, values in load_file(weights).items()
    }
    save_file(rounded, weights, {"format": "pt"})
    assert_same_logits(path, directory)


@pytest.mark.parametrize("kind", [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K])
def test_k_quants_are_read(kind: Kind, tmp_path: Path) -> None:
    """There is no quantizer for them in Python, but any bytes are weights."""
    values_per_block, bytes_per_block = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 256, (3, 2 * bytes_per_block), np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(raw, kind)
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    writer.add_block_count(1)
    writer.add_tensor("output.weight", raw, raw_dtype=kind)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    with GgufCheckpoint(tmp_path / "k.gguf") as checkpoint, np.errstate(all="ignore"):
        shape = (3, 2 * values_per_block)
        found = checkpoint.read("lm_head.weight", shape, torch.float32)
    torch.testing.assert_close(found, torch.from_numpy(expected), equal_nan=True)


def test_a_whole_model_with_its_tokenizer_writes_the_same_text(tmp_path: Path) -> None:
    directory = resolve_model(DEMO_MODEL)
    path = write_gguf(directory, tmp_path / "demo.gguf", tokenizer=True)
    prompts = ["Add 3 and 4.", "Tell a story.", "  zwei  Wörter — 水!"]
    texts = []
    for model in (directory, tmp_path):  # a directory stands for the one GGUF file in it
        llm = LLM(str(model), dtype="float32", device="cpu", kv_cache_gb=0.02, max_num_seqs=4)
        greedy = SamplingParams(temperature=0, max_tokens=12)
        outputs = llm.generate(prompts, greedy)
        outputs += llm.chat([[{"role": "user", "content": prompts[0]}]], greedy)
        assert all(output.error is None for output in outputs)
        texts.append([(output.prompt_token_ids, output.outputs[0].text) for output in outputs])
    assert texts[0] == texts[1]
    assert resolve_model(str(tmp_path)) == path


def test_a_tokenizer_of_sentencepiece_is_read(tmp_path: Path) -> None:
    original = byte_fallback()
    directory = TinyModel(LlamaConfig, {"vocab_size": len(original)}).save(tmp_path / "saved")
    original._tokenizer.save_pretrained(directory)
    path = write_gguf(directory, tmp_path / "model.gguf", tokenizer=True)
    found = Tokenizer.from_directory(path)
    for text in ("ab c é.", "a b", "水"):
        expected = original.encode(text)
        assert isinstance(expected, tuple)
        assert found.encode(text) == (1, *expected)  # such models begin with BOS
        assert found.decode(expected) == text


def test_of_two_files_one_must_be_named(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelNotFound, match=r"holds 2 GGUF files \(a\.gguf, b\.gguf\); name one"):
        resolve_model(str(tmp_path))
    assert resolve_model(str(tmp_path / "a.gguf")) == tmp_path / "a.gguf"


def test_a_name_that_leads_nowhere_is_no_name_on_the_hub() -> None:
    with pytest.raises(ModelNotFound, match=r"there is no file missing\.gguf"):
        resolve_model("missing.gguf")
    with pytest.raises(ModelNotFound, match="name is empty"):
        resolve_model("")


def test_damage_is_not_blamed_on_the_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.touch()
    with pytest.raises(CorruptCheckpoint, match=r"empty\.gguf is no usable GGUF file"):
        LLM(str(path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("whole")
    checkpoint = TINY_MODELS["llama"].save(directory / "checkpoint")
    return write_gguf(checkpoint, directory / "model.gguf").read_bytes()


@pytest.mark.parametrize("kept", [0, 3, 4, 12, 23, 24, 60, 300, 1500, -1])
def test_a_truncated_file_is_refused(whole: bytes, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[:kept])
    with pytest.raises(CorruptCheckpoint, match=r"model\.gguf is no usable GGUF file"):
        make_runner(path)


def test_whatever_byte_is_damaged_the_file_is_read_or_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    generator = np.random.default_rng(0)
    head = whole.index(b"blk.1.ffn") + 400  # past it there are only weights
    for place in generator.integers(0, head, 300).tolist():
        for value in (0, 255, int(generator.integers(256))):
            damaged = bytearray(whole)
            damaged[place] = value
            path.write_bytes(damaged)
            with suppress(CorruptCheckpoint, UnsupportedModel):
                GgufHeader.read(path)


@pytest.mark.parametrize(
    ("place", "raw", "complaint"),
    [
        (0, b"GGML", "does not begin with GGUF"),
        (4, b"\x01\0\0\0", "version must be one of"),
        (8, b"\xff" * 8, "were to follow|Overflow|unknown type|dimensions"),
        (16, b"\xff" * 8, "were to follow|unknown type"),
        (24, b"\xff" * 8, "were to follow"),
    ],
)
def test_a_damaged_head_is_refused(
    whole: bytes, tmp_path: Path, place: int, raw: bytes, complaint: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[:place] + raw + whole[place + len(raw) :])
    with pytest.raises(CorruptCheckpoint, match=complaint):
        make_runner(path)


def test_other_kinds_of_files_are_refused(tiny_checkpoint: Checkpoints, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes((tiny_checkpoint("llama") / "model.safetensors").read_bytes())
    with pytest.raises(CorruptCheckpoint, match="does not begin with GGUF"):
        read_architecture(path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"general__architecture": "mamba"}, "'mamba' cannot be read from GGUF; those that can"),
        ({"llama__block_count": None}, r"lacks the key llama\.block_count"),
        ({"llama__expert_count": 8}, "mixtures of experts"),
        ({"llama__rope__scaling__type": "strange"}, "strange"),
        ({"split__count": 3}, "is one of 3 parts; merge them"),
        ({"llama__block_count": 3}, r"lacks \d+ tensors of the model: model\.layers\.2"),
        ({"llama__block_count": 1}, r"no place for: blk\.1"),
        ({"llama__feed_forward_length": 64}, r"blk\.0\.ffn_gate\.weight has shape"),
    ],
)
def test_what_does_not_fit_is_named(
    tiny_checkpoint: Checkpoints, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = write_gguf(tiny_checkpoint("llama"), tmp_path / "model.gguf", **changes)
    with pytest.raises((CorruptCheckpoint, UnsupportedModel), match=complaint):
        make_runner(path)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "i.gguf", "llama")
    writer.add_block_count(1)
    writer.add_tensor("output_norm.weight", np.ones(64, np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with (
        GgufCheckpoint(tmp_path / "i.gguf") as checkpoint,
        pytest.raises(CorruptCheckpoint, match="has type I32, which holds no weights"),
    ):
        checkpoint.require({"model.norm.weight": (64,)})


def test_the_package_that_is_missing_is_named(
    tiny_checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tiny_checkpoint("llama"), tmp_path / "model.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UnsupportedModel, match=r"need the package gguf \(pip install gguf\)"):
        read_architecture(path)
