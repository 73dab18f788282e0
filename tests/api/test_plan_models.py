"""The planner counts a model's weights and cached numbers exactly, from its config.json alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from penstock.api.planner_families import FAMILIES
from penstock.api.planner_models import POPULAR, find_shape
from penstock.api.planner_shape import ModelShape, UnplannableModel, read_shape
from penstock.engine.layer_kinds import layer_types, sliding_windows
from penstock.engine.models import families
from tests.engine.checkpoints import SMALL, TINY_MODELS

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 263,
}


def model_of(name: str) -> tuple[Any, Any]:
    """A tiny model without numbers, and its configuration."""
    tiny = TINY_MODELS[name]
    config = tiny.config_class(**{**SMALL, **tiny.options})
    with torch.device("meta"):
        return (tiny.model_class or AutoModelForCausalLM.from_config)(config), config


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.filterwarnings("ignore:.*original_max_position_embeddings")
def test_weights_and_windows_are_those_of_transformers(name: str) -> None:
    model, config = model_of(name)
    text = getattr(model.model, "language_model", model)  # of a model of images its text alone
    described = {**config.to_dict(), "architectures": [type(model).__name__]}
    shape = read_shape(json.loads(json.dumps(described)), name)
    assert shape.num_parameters == sum(one.numel() for one in text.parameters())
    sizes = config.get_text_config()
    assert shape.windows == sliding_windows(sizes, layer_types(sizes))
    inner = model.model if text is model else text
    matrices = [one.numel() for one in inner.layers.parameters() if one.dim() > 1]
    assert shape.layer_weights == sum(matrices)
    key = inner.layers[0].self_attn.k_proj if hasattr(inner.layers[0].self_attn, "k_proj") else None
    if key is not None:
        assert shape.num_kv_heads * shape.head_dim == key.out_features


def test_the_families_are_the_engines() -> None:
    assert FAMILIES.keys() == families.FAMILIES.keys()


@pytest.mark.parametrize(
    "name",
    [
        "google/gemma-3-27b",
        "Qwen/Qwen3-30B-A3B",
        "Qwen/Qwen2.5-7B",
        "microsoft/Phi-4-mini-instruct",
        "mistralai/Mixtral-8x7B-v0.1",
        "google/gemma-2-2b",
    ],
)
def test_popular_sizes_make_the_model_that_transformers_makes(name: str) -> None:
    from transformers import AutoConfig

    sizes = POPULAR[name]
    kinds = {
        "Gemma3ForConditionalGeneration": "gemma3_text",
        "Gemma2ForCausalLM": "gemma2",
        "Qwen3MoeForCausalLM": "qwen3_moe",
        "Qwen2ForCausalLM": "qwen2",
        "Phi3ForCausalLM": "phi3",
        "MixtralForCausalLM": "mixtral",
    }
    own = {key: value for key, value in sizes.items() if key != "architectures"}
    config = AutoConfig.for_model(kinds[sizes["architectures"][0]], pad_token_id=0, **own)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert find_shape(name).num_parameters == model.num_parameters()


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [  # as the files of these models sum up on the hub
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("qwen/qwen3-8b", 8_190_735_360),
        ("Qwen/Qwen3-32B", 32_762_123_264),
        ("Qwen/Qwen3-30B-A3B", 30_532_122_624),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704),
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-3-1b-it", 999_885_952),
    ],
)
def test_totals_are_the_published_ones(name: str, num_parameters: int) -> None:
    assert find_shape(name).num_parameters == num_parameters


def test_the_demo_model_is_found_and_is_what_its_file_says() -> None:
    from penstock.engine.model_place import resolve_model

    directory = resolve_model("penstock-demo")
    assert find_shape("penstock-demo").num_parameters == find_shape(str(directory)).num_parameters
    file_bytes = (directory / "model.safetensors").stat().st_size
    assert 2 * find_shape("penstock-demo").num_parameters == pytest.approx(file_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architectures": ["DeepseekV3ForCausalLM"], "kv_lora_rank": 512}, "multi-head latent"),
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
        ({"architectures": None}, "(none)"),
        ({"hidden_size": None}, "hidden_size must be an integer from 1, got None"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be an integer from 1, got -1"),
        ({"vocab_size": True}, "vocab_size"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads, got 4 and 3"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized by 'awq'"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UnplannableModel, match=r"mine.*") as error:
        read_shape({**LLAMA, **changed}, "mine")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", "{", "cannot read"),
        ("config.json", "[]", "must hold an object, got list"),
        ("other.json", "{}", "there is no config.json at"),
        ("model.gguf", "", "GGUF"),
    ],
)
def test_files_that_do_not_do(tmp_path: Path, file: str, text: str, said: str) -> None:
    (tmp_path / file).write_text(text)
    place = tmp_path / file if file.endswith("gguf") else tmp_path
    with pytest.raises(UnplannableModel, match=said):
        find_shape(str(place))


def test_a_name_that_is_nowhere_tells_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnplannableModel, match="Qwen/Qwen3-8B"):
        find_shape("a-model-of-no-name")
    import huggingface_hub

    def no_network(*_: object) -> str:
        raise OSError("no route to the hub\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    with pytest.raises(UnplannableModel, match=r"OSError: no route to the hub$"):
        find_shape("nobody/has-this")


def test_a_config_from_the_hub_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    fetched = tmp_path / "blob" / "config.json"
    fetched.parent.mkdir()
    fetched.write_text(json.dumps(LLAMA))
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *given: asked.append(given) or str(fetched)
    )
    assert find_shape("somebody/model") == read_shape(LLAMA, "somebody/model")
    assert asked == [("somebody/model", "config.json")]


def test_windows_count_what_each_token_sees() -> None:
    shape = read_shape({**LLAMA, "sliding_window": 10}, "windows")
    by_hand = sum(min(place + 0.5, 10) for place in range(4, 50))
    assert shape.seen_between(4, 50) == pytest.approx(by_hand, rel=1e-9)
    assert shape.shared_tokens(32) == 0
    assert read_shape(LLAMA, "all").seen_between(0, 50) == 50 * 50 / 2


def shape_of(**more: Any) -> ModelShape:
    return read_shape({**LLAMA, **more}, "made")


def test_experts_are_read_as_they_are_chosen() -> None:
    shape = shape_of(
        architectures=["MixtralForCausalLM"], num_local_experts=8, num_experts_per_tok=2
    )
    attention = 2 * (2 * 64 * 16 * 6)
    router, expert = 2 * 64 * 8, 2 * 3 * 64 * 112
    assert shape.layer_weights == attention + router + 8 * expert
    assert shape.active_layer_weights == attention + router + 2 * expert
    assert shape.touched_layer_weights(1) == pytest.approx(attention + router + 2 * expert)
    two_tokens = 8 * (1 - 0.75**2)  # experts that are left alone by neither
    assert shape.touched_layer_weights(2) == pytest.approx(attention + router + two_tokens * expert)
    assert shape.touched_layer_weights(1000) == pytest.approx(shape.layer_weights)
