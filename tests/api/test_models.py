"""The list of models, and single ones whose ids hold slashes."""

import openai
import pytest

from .conftest import IDLE_MODEL, MODEL


def test_configured_and_live_models_are_listed(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {MODEL, IDLE_MODEL}
    assert models[MODEL].object == "model"
    assert models[MODEL].owned_by == "penstock"
    assert models[MODEL].created > 1_600_000_000
    extra = models[MODEL].model_extra or {}
    assert extra["workers"] == 1


def test_one_model(client: openai.OpenAI) -> None:
    assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("model", ["org/none", "../../etc/passwd", "https://evil.example/m"])
def test_an_unknown_model_is_404(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(model)
    assert caught.value.code in ("model_not_found", "not_found")
