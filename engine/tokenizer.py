"""Text in, token ids out, and back again. Knows the checkpoint's tokenizer files and its chat
template; executes no code from the checkpoint (the template runs in a process of its own).

The whole text that a template makes is tokenized at once, as vLLM and transformers do it. So a
message that spells a control token such as `<|im_end|>` is read as that token: whoever passes on
text that is not trusted takes such spellings out of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import decoders
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from .chat_template import ChatRenderer, template_messages
from .gguf_header import GgufHeader
from .outputs import RequestError
from .tool_calls import MARKERS, ToolFormat, detect_tool_format

Message = Mapping[str, Any]
Tool = dict[str, Any]


class UnsupportedTokenizer(ValueError):
    """The checkpoint's tokenizer is missing, unreadable or not one of the `tokenizers` library."""


class Tokenizer:
    """A checkpoint's tokenizer. One row's fault comes back as that row's `RequestError`.

    Attributes:
        special_token_ids: tokens that are structure, not text; decoding leaves them out.
        has_chat_template: whether `encode_chat` can work.
        tool_format: how the model writes tool calls; None if it makes none that are known here.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()  # a prompt is taken whole or refused
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder()
        self.special_token_ids = frozenset(
            i for i, token in added.items() if token.special and token.content not in MARKERS
        )
        self._keeps_markers = any(t.special and t.content in MARKERS for t in added.values())
        self.has_chat_template = tokenizer.chat_template is not None
        self.tool_format = self._tool_format()
        self._renderer = ChatRenderer()
        self._byte_pieces: list[bytes] | None = None

    @classmethod
    def from_directory(cls, directory: Path) -> "Tokenizer":
        """Read the tokenizer of the checkpoint in `directory`, or of the GGUF file of that name.

        Raises:
            UnsupportedTokenizer: there is none, or it needs code from the checkpoint.
            CorruptCheckpoint: the GGUF file is damaged.
        """
        if directory.is_file():
            GgufHeader.read(directory)  # which tells of damage better than what reads it next
        try:
            if directory.is_file():  # a GGUF file, with its tokenizer inside
                tokenizer = AutoTokenizer.from_pretrained(
                    directory.parent, gguf_file=directory.name, trust_remote_code=False
                )
            else:
                tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        except Exception as error:  # transformers raises a dozen kinds
            raise UnsupportedTokenizer(
                f"cannot read a tokenizer in {directory}: {error}"
            ) from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UnsupportedTokenizer(
                f"{directory} has a {type(tokenizer).__name__}; a tokenizer.json is needed"
            )
        return cls(tokenizer)

    def __len__(self) -> int:
        """Count the tokens, added ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> tuple[int, ...] | RequestError:
        """Return the token ids of a plain prompt, with the BOS token if the model wants one."""
        return self._encode(text, add_special_tokens=True)

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[int, ...] | RequestError]:
        """Encode many prompts at once, in parallel where there are cores."""
        try:
            encodings = self._backend.encode_batch(list(texts))
        except (TypeError, ValueError, UnicodeError):  # one of them is at fault: find out which
            return [self.encode(text) for text in texts]
        return [tuple(encoding.ids) for encoding in encodings]

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Tool] | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...] | RequestError:
        """Return the token ids of a conversation, laid out by the model's chat template."""
        text = self.render_chat(
            messages,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            template_options=template_options,
        )
        if isinstance(text, RequestError):
            return text
        return self._encode(text, add_special_tokens=False)  # the template has put BOS in

    def render_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Tool] | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> str | RequestError:
        """Return the prompt that the model's chat template makes of a conversation.

        `template_options` are the template's own switches, such as `enable_thinking`.
        """
        if not self.has_chat_template:
            return _template_error("the model has no chat template; send a plain prompt instead")
        shown = list(tools) if tools else None
        try:
            variables = {
                **self._tokenizer.special_tokens_map,
                **(template_options or {}),
                "messages": template_messages(messages),
                "tools": shown,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
            template = self._tokenizer.get_chat_template(tools=shown)
            return self._renderer.render(template, variables)
        except ValueError as error:
            return _template_error(
                f"the model's chat template refuses these messages: {_shortened(str(error))}"
            )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of `token_ids`, without special tokens."""
        if self._keeps_markers:
            token_ids = [i for i in token_ids if i not in self.special_token_ids]
        return self._backend.decode(token_ids, skip_special_tokens=not self._keeps_markers)

    def encode_word(self, text: str) -> tuple[int, ...] | RequestError:
        """Return the token ids of a piece of text, without those that a prompt begins with."""
        return self._encode(text, add_special_tokens=False)

    def definition(self) -> str:
        """Return the text of a tokenizer.json that holds everything about the tokens."""
        return self._backend.to_str()

    def byte_pieces(self) -> list[bytes] | None:
        """Return the bytes each token stands for, by id; None if its neighbours matter too.

        Only a byte-level vocabulary (GPT-2, Llama 3, Qwen) has them. Special tokens are empty.
        """
        if self._byte_pieces is None and isinstance(self._backend.decoder, decoders.ByteLevel):
            byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
            vocabulary = self._backend.get_vocab(with_added_tokens=True)
            pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
            for token, token_id in vocabulary.items():
                if token_id not in self.special_token_ids:
                    try:
                        pieces[token_id] = bytes([byte_of[character] for character in token])
                    except KeyError:  # an added token is spelt as it is
                        pieces[token_id] = token.encode()
            self._byte_pieces = pieces
        return self._byte_pieces

    def _tool_format(self) -> ToolFormat | None:
        templates: Any = self._tokenizer.chat_template
        if isinstance(templates, dict):  # named ones: the one for tools, if there is one
            templates = templates.get("tool_use") or templates.get("default")
        return detect_tool_format(templates) if isinstance(templates, str) else None

    def _encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...] | RequestError:
        try:
            encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
        except (TypeError, ValueError, UnicodeError) as error:
            return RequestError(
                code="invalid_request",
                message=f"prompt cannot be tokenized: {_shown(error)}, got {_shown(text)}",
                param="prompt",
                stage="tokenize",
            )
        return tuple(encoding.ids)


def _template_error(message: str) -> RequestError:
    return RequestError(code="template_error", message=message, param="messages", stage="render")


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, Exception) else f"{type(value).__name__}: {value}"
    return _shortened(text)


def _shortened(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot travel
    return text if len(text) <= 200 else text[:197] + "..."


def _byte_characters() -> list[str]:
    """Return the printable character that GPT-2's vocabulary writes for each byte 0..255."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    substitutes = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(substitutes)) for byte in range(256)]
