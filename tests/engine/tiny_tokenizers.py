"""Small tokenizers of the two great kinds, made on the spot, with every byte in them."""

from functools import cache

from tokenizers import AddedToken, Tokenizer as Backend, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from penstock.engine.tokenizer import Tokenizer

SPECIAL = ("<pad>", "<bos>", "<eos>")
TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role: ' + message.role) }}{% endif %}"
    "{{ message.role + ':' + message.content + '<eos>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@cache
def byte_level() -> Tokenizer:
    """GPT-2's kind: ids 0..2 are special, 3..258 the bytes, then two merges and an added token."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL)}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    merges = [("t", "h"), ("th", "e")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken("<水>", normalized=False)])
    return _wrap(backend)


@cache
def byte_fallback() -> Tokenizer:
    """Llama 2's kind: words carry their space, unknown characters fall back to bytes."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL)}
    vocabulary["<unk>"] = len(vocabulary)
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for piece in ("▁", "a", "b", "c", "▁a", "▁b", "ab", "▁ab", "▁c", ".", "é"):
        vocabulary[piece] = len(vocabulary)
    merges = [("▁", "a"), ("▁", "b"), ("a", "b"), ("▁a", "b"), ("▁", "c")]
    backend = Backend(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    return _wrap(backend)


def _wrap(backend: Backend) -> Tokenizer:
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend)
    wrapped.chat_template = TEMPLATE
    return Tokenizer(wrapped)
