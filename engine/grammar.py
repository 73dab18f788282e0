"""Forms of output made to hold: which tokens may come next. Knows llguidance and token ids.

    StructuredOutputs -> Grammar (compiled once)  -> Matcher (one for each sample, moves on with it)
                                                        mask -> sample -> advance -> mask -> ...

Nothing here ever fails open: a matcher at fault allows no token, and its row ends with an error.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from .outputs import RequestError
from .structured_outputs import StructuredOutputs
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

_PARAM = "structured_outputs"
_LARK = re.compile(r"^[ \t]*(?:%llguidance\b|start[ \t]*:)", re.MULTILINE)
_MAX_GBNF = 1 << 14  # characters; they are read by Python, which lets no other thread run meanwhile
_BLANKS = r"[\x20\x0A\x0D\x09]{1,32}"  # without a bound, models get lost in them
_BITS = 32  # tokens in a word of a mask
_TOO_MUCH = ("too many expressions", "TooComplex")  # said of a form that is at fault itself
_OWN_WORDS = re.compile(r"<non-verbose/>|NoExtensionBias|^lexer error:")  # llguidance's, for itself
_ALONE = 2  # so many rows are faster masked one by one than by several threads


class GrammarVocabulary:
    """The tokens of one model as llguidance sees them; to make one takes up to a second.

    Attributes:
        tokenizer: llguidance's own. It has tokens for all that the model gives logits for; those
            beyond the vocabulary stand for no text, so no grammar allows them.

    Raises:
        ImportError: llguidance is not installed.
        ValueError: it cannot read the tokenizer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        eos_token_ids: Iterable[int],
        num_threads: int = 1,
    ) -> None:
        try:
            import llguidance  # only rows with a form need it
        except ImportError as error:
            raise ImportError(
                "structured_outputs need the package llguidance: pip install llguidance"
            ) from error
        ending = sorted(eos_token_ids)
        self.tokenizer: LLTokenizer = llguidance.LLTokenizer(
            tokenizer.definition(),
            n_vocab=max(vocab_size, len(tokenizer)),
            eos_token=ending or None,
        )
        self._num_threads = num_threads
        self._executor: LLExecutor | None = None

    def compile(self, form: StructuredOutputs) -> "Grammar | RequestError":
        """Make a grammar of a form, in milliseconds most often.

        Other threads run meanwhile, but for as long as GBNF is brought into Lark.
        """
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False)  # those show the grammar, or what was drawn
        try:
            text = _definition(form)
        except (ValueError, RecursionError) as error:
            return _invalid(str(error))
        matcher = LLMatcher(self.tokenizer, text, log_level=0, limits=limits)
        if matcher.is_error():
            return _invalid(matcher.get_error())
        # What may come first can take a second to find out. Copies know it then, and what allows
        # nothing at all is told here.
        self.fill_masks([first := matcher.deep_copy()])
        if first.is_error():
            reason = _plain(first.get_error())
            return _invalid("no output has this form" + (f" ({reason})" if reason else ""))
        return Grammar(self, matcher)

    def fill_masks(self, matchers: "list[LLMatcher]") -> np.ndarray:
        """Return uint32 [matchers, words]: a bit for each token that may come next."""
        num_words = -(-self.tokenizer.vocab_size // _BITS)
        masks = np.zeros((len(matchers), num_words), dtype=np.uint32)
        size = num_words * masks.itemsize
        if len(matchers) <= _ALONE or self._num_threads == 1:
            for matcher, mask in zip(matchers, masks, strict=True):
                matcher.unsafe_compute_mask_ptr(mask.ctypes.data, size)
            return masks
        if self._executor is None:
            from llguidance import LLExecutor

            self._executor = LLExecutor(num_threads=self._num_threads)
        numbered = [(matcher, row) for row, matcher in enumerate(matchers)]
        self._executor.unsafe_compute_mask_ptr(numbered, masks.ctypes.data, size, len(matchers))
        return masks


class Grammar:
    """A form that has been compiled; begun anew by each sample."""

    __slots__ = ("_matcher", "_vocabulary")

    def __init__(self, vocabulary: GrammarVocabulary, matcher: "LLMatcher") -> None:
        self._vocabulary = vocabulary
        self._matcher = matcher

    def begin(self) -> "Matcher":
        """Return a matcher in front of the first token."""
        return Matcher(self._vocabulary, self._matcher.deep_copy())


class Matcher:
    """How far one output has come in its grammar.

    Attributes:
        vocabulary: what its grammar was compiled for.
        inner: llguidance's matcher, which raises nothing: it is in error from then on.
    """

    __slots__ = ("inner", "vocabulary")

    def __init__(self, vocabulary: GrammarVocabulary, inner: "LLMatcher") -> None:
        self.vocabulary = vocabulary
        self.inner = inner

    @property
    def error(self) -> RequestError | None:
        """Why no token can come any more, if something went wrong."""
        if not self.inner.is_error():
            return None
        reason = self.inner.get_error()
        if any(words in reason for words in _TOO_MUCH):
            return _invalid(f"too large to be followed ({_plain(reason)}); simplify them")
        message = f"{_PARAM} cannot be followed further: {_plain(reason)}"
        return RequestError(code="grammar_error", message=message[:300], param=_PARAM)

    @property
    def has_ended(self) -> bool:
        """Whether the output is whole and nothing more may follow, or something went wrong."""
        return self.inner.is_stopped()

    def advance(self, token_id: int) -> None:
        """Move on by a token of the output; one that may not come there is an error from then on.

        Behind the end all tokens are taken, and mean nothing.
        """
        if not self.inner.is_stopped():
            self.inner.consume_token(token_id)


def mask_by_grammar(
    logits: torch.Tensor, matchers: Mapping[int, Matcher]
) -> dict[int, RequestError]:
    """Put what the grammars forbid out of reach in `logits` [rows, vocab]; rows are the keys.

    Returns the rows that are at fault, whose every token is out of reach.
    """
    vocabulary = next(iter(matchers.values())).vocabulary
    masks = vocabulary.fill_masks([matcher.inner for matcher in matchers.values()])
    faults: dict[int, RequestError] = {}
    for place, (row, matcher) in enumerate(matchers.items()):
        error = matcher.error
        if error is not None:
            faults[row] = error
            masks[place] = 0
    rows = [*matchers]
    forbidden = _unpack(~masks, logits.shape[-1], logits.device)
    if rows == [*range(len(logits))]:
        logits.masked_fill_(forbidden, -torch.inf)
    else:
        logits[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)
    return faults


def _unpack(masks: np.ndarray, vocab_size: int, device: torch.device) -> torch.Tensor:
    """Return bool [rows, vocab_size] on the device, to which only the bits travel."""
    if device.type == "cpu":
        octets = masks.view(np.uint8)
        bits = np.unpackbits(octets, axis=1, bitorder="little", count=vocab_size)
        return torch.from_numpy(bits).view(torch.bool)
    words = torch.from_numpy(masks.view(np.int32)).to(device)
    places = torch.arange(_BITS, dtype=torch.int32, device=device)
    return ((words[:, :, None] >> places) & 1).flatten(1)[:, :vocab_size].bool()


def _definition(form: StructuredOutputs) -> str:
    """Return a form in llguidance's own language.

    Raises:
        ValueError: it cannot be written in that.
    """
    from llguidance import LLMatcher, grammar_from

    if form.regex is not None:
        return LLMatcher.grammar_from_regex(form.regex)
    if form.grammar is not None:
        return LLMatcher.grammar_from_lark(_lark(form.grammar))
    if form.choice is not None:
        return grammar_from("choice", json.dumps(form.choice))
    schema = '{"type":"object"}' if form.json_object else str(form.json)
    if form.disable_any_whitespace:
        return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
    pattern = form.whitespace_pattern or _BLANKS
    return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": pattern})


def _lark(grammar: str) -> str:
    """Return a grammar in Lark's syntax. llguidance would tell the two apart, but in square time.

    Raises:
        ValueError: it is GBNF that cannot be read, or too much of it.
    """
    if _LARK.search(grammar):
        return grammar
    if len(grammar) > _MAX_GBNF:
        raise ValueError(
            f"a grammar without a rule start is GBNF, of which at most {_MAX_GBNF} characters are "
            f"read, got {len(grammar)}; write it in Lark's syntax"
        )
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return gbnf_to_lark(grammar)
    except Exception as error:  # it raises bare ones, and whatever its mistakes come to
        raise ValueError(f"the grammar cannot be read as GBNF: {error}") from error


def _invalid(reason: str) -> RequestError:
    return RequestError(
        code="invalid_request",
        message=f"{_PARAM} cannot be fulfilled: {_plain(reason)}"[:300],
        param=_PARAM,
        stage="validate",
    )


def _plain(reason: str) -> str:
    """Take out what means nothing to whoever wrote the form, and line breaks."""
    return " ".join(_OWN_WORDS.sub("", reason).split())
