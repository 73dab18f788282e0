"""A checkpoint is either read whole and right, or refused with the file and the reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.llama import LlamaConfig

from penstock.engine.architecture import read_architecture
from penstock.engine.config import EngineConfig
from penstock.engine.model_place import DEMO_MODEL, ModelNotFound, resolve_model
from penstock.engine.runner import ModelRunner
from penstock.engine.weights import Checkpoint, CorruptCheckpoint

from .checkpoints import TINY_MODELS, TinyModel, judge
from .test_models import logits_in_chunks, make_runner, random_prompt


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return TINY_MODELS["llama"].save(tmp_path / "llama")


def change_weights(directory: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of a checkpoint, or drop those given as None; `__` stands for a dot."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".")] = tensor
    save_file(tensors, path)


def load(directory: Path) -> ModelRunner:
    return make_runner(directory)


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_sharded_checkpoint(tmp_path: Path, name: str) -> None:
    directory = TINY_MODELS[name].save(tmp_path, max_shard_size="40KB")
    assert len(list(directory.glob("*.safetensors"))) > 2
    prompt = random_prompt(9)
    (found,) = logits_in_chunks(load(directory), [prompt], 9)
    with torch.inference_mode():
        expected = judge(directory)(torch.tensor([prompt])).logits[0, -1:]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_stored_copy_of_a_tied_head_is_no_surprise(tmp_path: Path) -> None:
    directory = TINY_MODELS["llama-tied"].save(tmp_path)
    change_weights(directory, lm_head__weight=torch.zeros(263, 64))
    load(directory)


def test_missing_tensors_are_named(llama: Path) -> None:
    change_weights(llama, model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(
        CorruptCheckpoint, match=r"lacks 1 tensors.*layers\.1\.mlp\.up_proj\.weight"
    ):
        load(llama)


def test_unexpected_tensors_are_named(llama: Path) -> None:
    change_weights(llama, model__layers__0__mlp__extra__weight=torch.zeros(3))
    with pytest.raises(CorruptCheckpoint, match=r"no place for.*mlp\.extra\.weight"):
        load(llama)


def test_wrong_shape_is_named(llama: Path) -> None:
    change_weights(llama, model__norm__weight=torch.ones(65))
    with pytest.raises(CorruptCheckpoint, match=r"model\.norm\.weight has shape \[65\].*\[64\]"):
        load(llama)


def test_integers_are_no_weights(llama: Path) -> None:
    change_weights(llama, model__norm__weight=torch.ones(64, dtype=torch.int64))
    with pytest.raises(CorruptCheckpoint, match="has type I64"):
        load(llama)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_truncated_file_is_named(llama: Path, kept: int) -> None:
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors is damaged"):
        load(llama)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    directory = TINY_MODELS["llama"].save(tmp_path, max_shard_size="40KB")
    victim = sorted(directory.glob("*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(CorruptCheckpoint, match=f"{victim.name} is named by the index"):
        load(directory)


@pytest.mark.parametrize(
    "index",
    [
        "{}",
        "[]",
        "{",
        '{"weight_map": 3}',
        '{"weight_map": {"x": 3}}',
        '{"weight_map": {"x": ["y"]}}',
    ],
)
def test_broken_index_is_named(llama: Path, index: str) -> None:
    (llama / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CorruptCheckpoint, match=r"index\.json is no index"):
        load(llama)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    directory = TINY_MODELS["llama"].save(tmp_path, max_shard_size="40KB")
    first, second, *_ = sorted(directory.glob("*.safetensors"))
    name, *_ = load_file(first)
    save_file({**load_file(second), name: torch.zeros(3)}, second)
    with pytest.raises(CorruptCheckpoint, match=f"{second.name} holds the tensor {name}, which"):
        load(directory)


def test_a_tensor_must_be_where_the_index_says(tmp_path: Path) -> None:
    directory = TINY_MODELS["llama"].save(tmp_path, max_shard_size="40KB")
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = "model.norm.weight"
    elsewhere = next(
        other for other in index["weight_map"].values() if other != index["weight_map"][name]
    )
    index["weight_map"][name] = elsewhere
    path.write_text(json.dumps(index))
    with pytest.raises(CorruptCheckpoint, match=f"holds the tensor {name}, .*{elsewhere}"):
        load(directory)


def test_an_index_cannot_point_outside(llama: Path) -> None:
    outside = {"weight_map": {"x": "../llama/model.safetensors"}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(outside))
    with pytest.raises(CorruptCheckpoint, match="named by the index"):
        load(llama)


def write_file(path: Path, header: object, num_bytes: int, length: int | None = None) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    announced = len(raw) if length is None else length
    path.write_bytes(announced.to_bytes(8, "little") + raw + bytes(num_bytes))


F32_PAIR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "num_bytes", "complaint"),
    [
        ({"x": F32_PAIR, "y": F32_PAIR}, 8, "tensor y begins at byte .* is next"),
        ({"x": F32_PAIR, "y": {**F32_PAIR, "data_offsets": [4, 12]}}, 12, "tensor y begins"),
        ({"x": {**F32_PAIR, "data_offsets": [4, 12]}}, 12, "tensor x begins"),
        ({"x": F32_PAIR}, 9, "its tensors end at byte"),
        ({"x": F32_PAIR}, 7, "its tensors end at byte"),
        ({"x": {**F32_PAIR, "shape": [2**40, 2**40]}}, 8, "would lie in 8 bytes"),
        ({"x": {**F32_PAIR, "shape": [-2]}}, 8, "no whole number"),
        ({"x": {**F32_PAIR, "shape": [2.0]}}, 8, "no whole number"),
        ({"x": {**F32_PAIR, "dtype": "F33"}}, 8, "unknown type 'F33'"),
        ({"x": {**F32_PAIR, "data_offsets": [8, 0]}}, 8, "would lie in -8 bytes"),
        ({"x": {"dtype": "F32"}}, 8, "header cannot be read"),
        ({"x": 3}, 8, "header cannot be read"),
        ([F32_PAIR], 8, "header cannot be read"),
        (b"[" * 100_000, 8, "header cannot be read"),
        (b"\xff\xfe", 8, "header cannot be read"),
        (b"", 8, "header cannot be read"),
    ],
)
def test_a_header_must_agree_with_its_file(
    llama: Path, header: object, num_bytes: int, complaint: str
) -> None:
    write_file(llama / "model.safetensors", header, num_bytes)
    with pytest.raises(CorruptCheckpoint, match=rf"model\.safetensors is damaged.*{complaint}"):
        load(llama)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**31, 10**6])
def test_a_header_longer_than_its_file_is_refused(llama: Path, length: int) -> None:
    write_file(llama / "model.safetensors", {"x": F32_PAIR}, 8, length)
    with pytest.raises(CorruptCheckpoint, match=f"announces a header of {length} bytes"):
        load(llama)


def test_a_pickle_under_another_name_is_refused(llama: Path) -> None:
    torch.save({"model.norm.weight": torch.ones(64)}, llama / "model.safetensors")
    with pytest.raises(CorruptCheckpoint, match="announces a header of"):
        load(llama)


def test_links_that_lead_nowhere_are_refused(llama: Path) -> None:
    path = llama / "model.safetensors"
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(CorruptCheckpoint, match=r"holds no model\.safetensors"):
        load(llama)
    index = {"weight_map": {"x": path.name}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptCheckpoint, match="named by the index but is not there"):
        load(llama)


def test_a_file_that_shrinks_while_it_is_read_is_refused(llama: Path) -> None:
    path = llama / "model.safetensors"
    with Checkpoint(llama) as checkpoint:
        os.truncate(path, 100)
        with pytest.raises(CorruptCheckpoint, match=r"safetensors is damaged: the file ends at"):
            checkpoint.read("model.norm.weight", (64,), torch.float32)


def test_what_is_expected_is_checked_before_anything_is_read(llama: Path) -> None:
    norm = "model.norm.weight"
    change_weights(llama, model__norm__weight=torch.ones(64, dtype=torch.int8))
    with Checkpoint(llama) as checkpoint:
        checkpoint.require([norm])
        with pytest.raises(CorruptCheckpoint, match=r"norm\.weight has type I8"):
            checkpoint.require({norm: (64,)})
        with pytest.raises(CorruptCheckpoint, match=r"norm\.weight has shape \[64\].*\[64, 1\]"):
            checkpoint.require({norm: (64, 1)})
        with pytest.raises(CorruptCheckpoint, match="lacks 1 tensors of the model: x"):
            checkpoint.require({norm: (64, 1), "x": (3,)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_type_of_real_numbers_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = torch.randn(3, 5).to(dtype)
    save_file({"x": stored, "empty": torch.zeros(0, 4)}, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path) as checkpoint:
        torch.testing.assert_close(checkpoint.read("x", (3, 5), dtype), stored)
        narrow = checkpoint.read("x", (3, 5), torch.bfloat16)
        torch.testing.assert_close(narrow, stored.bfloat16())
        assert checkpoint.read("empty", (0, 4), dtype).shape == (0, 4)


def test_pickled_weights_are_refused(llama: Path) -> None:
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(CorruptCheckpoint, match=r"pytorch_model\.bin would need pickle"):
        load(llama)


def test_reading_twice_gives_the_same(llama: Path) -> None:
    with Checkpoint(llama) as checkpoint:
        first = checkpoint.read("model.norm.weight", (64,), torch.float32)
        second = checkpoint.read("model.norm.weight", (64,), torch.float32)
    torch.testing.assert_close(first, second)


def test_a_loaded_model_outlives_its_file(llama: Path) -> None:
    prompt = random_prompt(9)
    runner = load(llama)
    (before,) = logits_in_chunks(runner, [prompt], 9)
    with (llama / "model.safetensors").open("r+b") as file:
        file.write(bytes((llama / "model.safetensors").stat().st_size))
    (after,) = logits_in_chunks(runner, [prompt], 9)
    torch.testing.assert_close(after, before)


LOAD_AND_TELL_PEAK = """
import sys
from pathlib import Path
from penstock.engine.config import EngineConfig
from penstock.engine.runner import ModelRunner

def kibibytes(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name)[1].split()[0])

for directory in sys.argv[1:]:  # the first one only warms up
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = kibibytes("VmRSS:")
    config = EngineConfig(
        model=directory, dtype="float32", device="cpu", kv_cache_gb=0.02, num_threads=1
    )
    runner = ModelRunner(config)
    print(kibibytes("VmHWM:") - before, kibibytes("VmRSS:") - before)
"""


def test_loading_needs_room_for_the_model_and_little_more(llama: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells a process its peak")
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 10}
    large = TinyModel(LlamaConfig, sizes).save(tmp_path / "large", torch.bfloat16)
    found = subprocess.run(
        [sys.executable, "-c", LOAD_AND_TELL_PEAK, str(llama), str(large)],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    peak_kib, kept_kib = map(int, found.stdout.splitlines()[-1].split())
    model_kib = read_architecture(large).num_parameters * 4 / 1024
    assert model_kib > 80_000
    assert kept_kib > 0.9 * model_kib
    assert peak_kib < 1.6 * model_kib  # a second copy would make it 2


def test_unknown_models_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("./nowhere", "/no/such/place", "a/b/c"):
        with pytest.raises(ModelNotFound, match="there is no directory"):
            resolve_model(name)
    with pytest.raises(ModelNotFound, match=r"without a config\.json"):
        resolve_model(str(tmp_path))


def test_a_directory_is_its_own_answer(llama: Path) -> None:
    assert resolve_model(str(llama)) == llama
    assert EngineConfig(model=str(llama)).model_name == "llama"
    assert EngineConfig().model_name == DEMO_MODEL


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"max_num_seqs": -1}, "max_num_seqs must be at least 1, got -1"),
        (
            {"max_num_seqs": 9, "max_num_batched_tokens": 8},
            "max_num_batched_tokens must be at least 9",
        ),
        ({"kv_cache_gb": 0.0}, "kv_cache_gb must be above 0"),
        ({"num_threads": 0}, "num_threads must be at least 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        EngineConfig(**settings)  # pyright: ignore


def test_a_cache_too_small_is_refused(llama: Path) -> None:
    with pytest.raises(ValueError, match="kv_cache_gb must hold at least 3 blocks"):
        make_runner(llama, kv_cache_gb=1e-6)
