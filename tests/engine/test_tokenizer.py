from pathlib import Path

import pytest

from penstock.engine.model_place import DEMO_MODEL, resolve_model
from penstock.engine.outputs import RequestError
from penstock.engine.tokenizer import Tokenizer, UnsupportedTokenizer

from .tiny_tokenizers import byte_fallback, byte_level

HELLO = [{"role": "user", "content": "the cat"}]


@pytest.mark.parametrize("text", ["the other", "", "añb 你好 🌊", "<水> the"])
def test_what_is_encoded_decodes(text: str) -> None:
    ids = byte_level().encode(text)
    assert not isinstance(ids, RequestError)
    assert byte_level().decode(ids) == text


def test_a_batch_is_encoded_like_its_rows() -> None:
    tokenizer = byte_level()
    texts = ["the", "", "你好", "\ud800 half", "cat"]
    batch = tokenizer.encode_batch(texts)
    assert batch == [tokenizer.encode(text) for text in texts]
    assert [isinstance(ids, RequestError) for ids in batch] == [False, False, False, True, False]


def test_text_that_is_no_text_is_that_rows_error() -> None:
    error = byte_level().encode("\ud800")
    assert isinstance(error, RequestError)
    assert (error.code, error.stage, error.param) == ("invalid_request", "tokenize", "prompt")
    error.message.encode()


def test_the_template_brings_the_only_bos() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode_chat(HELLO)
    assert not isinstance(ids, RequestError)
    assert ids.count(1) == 1
    assert ids[0] == 1
    assert tokenizer.render_chat(HELLO) == "<bos>user:the cat<eos>assistant:"
    assert tokenizer.render_chat(HELLO, add_generation_prompt=False) == "<bos>user:the cat<eos>"


def test_messages_that_the_template_refuses_are_that_rows_error() -> None:
    tokenizer = byte_level()
    for messages in ([{"role": "oracle", "content": "?"}], [{}], ["hello"], [{"role": "user"}]):
        error = tokenizer.encode_chat(messages)  # pyright: ignore[reportArgumentType]
        assert isinstance(error, RequestError)
        assert (error.code, error.stage) == ("template_error", "render")
        assert len(error.message) < 300


def test_a_model_without_a_template_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    monkeypatch.setattr(tokenizer, "has_chat_template", False)
    error = tokenizer.encode_chat(HELLO)
    assert isinstance(error, RequestError)
    assert "no chat template" in error.message


def test_byte_pieces_are_what_each_token_decodes_to() -> None:
    tokenizer = byte_level()
    pieces = tokenizer.byte_pieces()
    assert pieces is not None
    assert len(pieces) == len(tokenizer)
    for token_id, piece in enumerate(pieces):
        assert piece.decode("utf-8", "replace") == tokenizer.decode([token_id])
    assert byte_fallback().byte_pieces() is None


def test_special_tokens_are_known() -> None:
    assert byte_level().special_token_ids == {0, 1, 2}


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTokenizer, match="cannot read a tokenizer in"):
        Tokenizer.from_directory(tmp_path)


def test_the_demo_models_tokenizer_loads() -> None:
    tokenizer = Tokenizer.from_directory(resolve_model(DEMO_MODEL))
    ids = tokenizer.encode_chat(HELLO)
    assert not isinstance(ids, RequestError)
    assert "the cat" in tokenizer.decode(ids)
    assert tokenizer.byte_pieces() is not None
