"""A revision is another one wherever the engine would read something else, and only there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.model_place import DEMO_MODEL, resolve_model
from penstock.engine.revision import (
    BLOCK_BYTES,
    MAX_BLOCKS,
    Extent,
    checkpoint_revision,
    sampled,
    served_revision,
)
from penstock.engine.safetensors_file import SafetensorsFile
from penstock.engine.weights import CorruptCheckpoint

from .checkpoints import TINY_MODELS
from .gguf_files import write_gguf
from .rows import engine as engine_without_files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Make a checkpoint with every kind of file that a tokenizer may bring."""
    directory = tmp_path / "model"
    shutil.copytree(resolve_model(DEMO_MODEL), directory)
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    (directory / "merges.txt").write_text("t h\n")
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    return directory


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
    ],
)
def test_a_byte_of_a_small_file_counts(model: Path, name: str) -> None:
    before = checkpoint_revision(model)
    flip(model / name, (model / name).stat().st_size // 2)
    assert checkpoint_revision(model) != before


def test_a_file_that_comes_or_goes_counts(model: Path) -> None:
    found = {checkpoint_revision(model)}
    (model / "added_tokens.json").write_text("{}")
    found.add(checkpoint_revision(model))
    (model / "merges.txt").unlink()
    found.add(checkpoint_revision(model))
    assert len(found) == 3


def test_dates_places_and_remarks_do_not_count(model: Path, tmp_path: Path) -> None:
    before = checkpoint_revision(model)
    for path in model.rglob("*"):
        os.utime(path, (1, 1))
    (model / "README.md").write_text("other words")
    assert checkpoint_revision(model) == before
    model.rename(tmp_path / "elsewhere")
    assert checkpoint_revision(tmp_path / "elsewhere") == before


def test_a_byte_of_the_weights_header_counts(model: Path) -> None:
    path = model / "model.safetensors"
    before = checkpoint_revision(model)
    place = path.read_bytes().index(b"model.norm.weight")
    flip(path, place)
    assert checkpoint_revision(model) != before


def test_every_tensor_counts(model: Path) -> None:
    path = model / "model.safetensors"
    found = {checkpoint_revision(model)}
    with SafetensorsFile(path) as file:
        tensors = dict(file.tensors)
    for tensor in tensors.values():
        for place in (tensor.begin, (tensor.begin + tensor.end) // 2, tensor.end - 1):
            flip(path, place)
            found.add(checkpoint_revision(model))
            flip(path, place)
    assert len(found) == 1 + 3 * len(tensors)


def test_large_tensors_count_at_each_place_that_is_sampled(model: Path) -> None:
    path = model / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "more": torch.zeros(1 << 20)}, path)
    before = checkpoint_revision(model)
    with SafetensorsFile(path) as file:
        extents = [Extent(each.begin, each.end - each.begin) for each in file.tensors.values()]
    large = max(extents, key=lambda each: each.num_bytes)
    chosen = list(sampled([large], MAX_BLOCKS // len(extents)))
    assert len(chosen) == MAX_BLOCKS // len(extents)
    assert sum(each.num_bytes for each in chosen) < large.num_bytes // 10
    found = {before}
    tried = [chosen[0], *chosen[1:-1:10], chosen[-1]]
    for each in tried:
        flip(path, each.begin)
        found.add(checkpoint_revision(model))
        flip(path, each.begin)
    assert len(found) == 1 + len(tried)
    assert checkpoint_revision(model) == before


@pytest.mark.parametrize("num_blocks", [1, 2, 7])
def test_blocks_are_spread_over_a_tensor(num_blocks: int) -> None:
    extent = Extent(10, 100 * BLOCK_BYTES)
    chosen = list(sampled([extent], num_blocks))
    assert len(chosen) == num_blocks
    ends = [extent.begin, *(each.begin + each.num_bytes for each in chosen)]
    gaps = [each.begin - end for each, end in zip(chosen, ends, strict=False)]
    gaps.append(extent.begin + extent.num_bytes - ends[-1])
    assert min(gaps) >= 0
    assert max(gaps) <= 100 * BLOCK_BYTES // num_blocks


def test_each_file_of_sharded_weights_counts(tmp_path: Path) -> None:
    directory = TINY_MODELS["llama"].save(tmp_path, max_shard_size="40KB")
    found = {checkpoint_revision(directory)}
    paths = list(directory.glob("*.safetensors"))
    for path in paths:
        flip(path, path.stat().st_size - 1)
        found.add(checkpoint_revision(directory))
    assert len(found) == 1 + len(paths)


def test_weights_that_the_engine_does_not_read_do_not_count(model: Path) -> None:
    before = checkpoint_revision(model)
    (model / "consolidated.safetensors").write_bytes(b"something else")
    assert checkpoint_revision(model) == before


def test_the_hub_cache_names_files_by_their_hash(tmp_path: Path) -> None:
    """What a sample may overlook in a large tensor, it tells."""
    found = set()
    for number in range(2):
        snapshot = tmp_path / str(number) / "snapshots" / "0123abc"
        shutil.copytree(resolve_model(DEMO_MODEL), snapshot)
        blob = tmp_path / str(number) / "blobs" / f"hash{number}"
        blob.parent.mkdir()
        (snapshot / "model.safetensors").rename(blob)
        (snapshot / "model.safetensors").symlink_to(Path("../../blobs") / blob.name)
        found.add(checkpoint_revision(snapshot))
    assert len(found) == 2


def test_gguf_files_and_what_configures_their_tokenizer(tmp_path: Path) -> None:
    path = write_gguf(TINY_MODELS["llama"].save(tmp_path / "llama"), tmp_path / "m.gguf")
    found = [checkpoint_revision(path)]
    os.utime(path, (1, 1))
    (tmp_path / "data.json").write_text("{}")
    assert checkpoint_revision(path) == found[0]
    changes: list[Callable[[], object]] = [
        lambda: flip(path, path.read_bytes().index(b"llama.context_length")),
        lambda: flip(path, path.stat().st_size - 1),
        lambda: (tmp_path / "tokenizer_config.json").write_text("{}"),
        lambda: (tmp_path / "chat_template.jinja").write_text("{{ messages }}"),
    ]
    for change in changes:
        change()
        found.append(checkpoint_revision(path))
    assert len(set(found)) == 1 + len(changes)


def test_what_it_is_run_in_counts(model: Path) -> None:
    bfloat16, float32 = torch.bfloat16, torch.float32
    found = [
        served_revision(model, float32),
        served_revision(model, bfloat16),
        served_revision(model, bfloat16, quantization="int8"),
        served_revision(model, bfloat16, kv_cache_dtype="fp8_e4m3"),
    ]
    assert len(set(found)) == 4
    assert all(each.startswith(checkpoint_revision(model)) for each in found)
    assert found[2].endswith("-bfloat16-int8")


def test_an_engine_tells_its_own(model: Path) -> None:
    def revision(**options: Any) -> str:
        return Engine(EngineConfig(model=str(model), device="cpu", **options)).revision

    assert revision() == served_revision(model, torch.float32)
    assert revision(quantization="int8") == served_revision(
        model, torch.float32, quantization="int8"
    )
    assert revision(dtype="bfloat16") == served_revision(model, torch.bfloat16)
    assert engine_without_files().revision == ""


def test_damaged_weights_have_none(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CorruptCheckpoint):
        checkpoint_revision(model)
