"""What a row's parameters allow, forbid and favour, whatever form its output has.

Knows token ids and logits, nothing of chance.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch

from .outputs import RequestError
from .sampling_params import SamplingParams
from .tokenizer import Tokenizer

_MAX_KEPT = 16  # of the parameters that jobs have in common


class RuleBook:
    """The rules of one model's requests, made once where many have the same parameters."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._kept: OrderedDict[object, LogitRules | RequestError] = OrderedDict()

    def find(self, params: SamplingParams) -> "LogitRules | RequestError | None":
        """Return the rules of `params`; None if there are none; what is wrong with them."""
        bias, words, allowed = params.logit_bias, params.bad_words, params.allowed_token_ids
        if not (bias or words or allowed or params.min_tokens):
            return None
        ending = params.stop_token_ids if params.min_tokens else None
        key = (tuple(bias.items()) if bias else None, words, allowed, ending)
        rules = self._kept.get(key)
        if rules is None:
            rules = self._kept[key] = self._make(params)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return rules

    def _make(self, params: SamplingParams) -> "LogitRules | RequestError":
        named = {"logit_bias": params.logit_bias, "allowed_token_ids": params.allowed_token_ids}
        for param, token_ids in named.items():
            if token_ids and max(token_ids) >= self._vocab_size:
                message = f"{param} must hold token ids from 0 to {self._vocab_size - 1}"
                return _refused(param, f"{message}, got {max(token_ids)}")
        words = _tokens_of(params.bad_words, self._tokenizer)
        if isinstance(words, RequestError):
            return words
        return LogitRules.of(
            params,
            words,
            vocab_size=self._vocab_size,
            eos_token_ids=self._eos_token_ids,
        )


@dataclass(frozen=True, slots=True)
class BadWords:
    """Sequences of at least two tokens that the output must not come to hold.

    Attributes:
        by_last: by the token before the last: what comes before the last, and it.
    """

    by_last: dict[int, tuple[tuple[tuple[int, ...], int], ...]]

    @classmethod
    def of(cls, words: Iterable[tuple[int, ...]]) -> Self:
        """Sort the words' token ids, of which none may be shorter."""
        by_last: dict[int, tuple[tuple[tuple[int, ...], int], ...]] = {}
        for word in dict.fromkeys(words):
            entry = (word[:-1], word[-1])
            by_last[word[-2]] = (*by_last.get(word[-2], ()), entry)
        return cls(by_last)

    def forbidden_after(self, output: Sequence[int], num_generated: int) -> list[int]:
        """Return the tokens that would complete a word; `output` ends in the generated tokens."""
        forbidden: list[int] = []
        if num_generated:
            for begin, last in self.by_last.get(output[-1], ()):
                if len(begin) <= num_generated and tuple(output[-len(begin) :]) == begin:
                    forbidden.append(last)
        return forbidden


@dataclass(frozen=True, slots=True, eq=False)
class LogitRules:
    """Tensors are the host's: a device that keeps tables of them is sent them with all else.

    Attributes:
        bias_ids, bias: what to add to which tokens.
        allowed: bool [vocab], the only tokens that may be drawn; no bad word of one token.
        bad_words: see there.
        endings: tokens that may not be drawn before `min_tokens`.
    """

    bias_ids: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    allowed: torch.Tensor | None = None
    bad_words: BadWords | None = None
    endings: torch.Tensor | None = None
    _elsewhere: "dict[torch.device, LogitRules]" = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        params: SamplingParams,
        bad_words: Sequence[tuple[int, ...]] = (),
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int] = frozenset(),
    ) -> Self:
        """Make tensors of parameters whose token ids the vocabulary has."""
        bias_ids = bias = allowed = endings = None
        if params.logit_bias:
            bias_ids = torch.tensor([*params.logit_bias])
            bias = torch.tensor([*params.logit_bias.values()], dtype=torch.float32)
        if params.allowed_token_ids:
            allowed = torch.zeros(vocab_size, dtype=torch.bool)
            allowed[list(params.allowed_token_ids)] = True
        if single := [word[0] for word in bad_words if len(word) == 1 and word[0] < vocab_size]:
            allowed = torch.ones(vocab_size, dtype=torch.bool) if allowed is None else allowed
            allowed[single] = False
        if params.min_tokens:
            ids = sorted(i for i in eos_token_ids | {*params.stop_token_ids} if i < vocab_size)
            endings = torch.tensor(ids, dtype=torch.int64)
        longer = [word for word in bad_words if len(word) > 1]
        return cls(bias_ids, bias, allowed, BadWords.of(longer) if longer else None, endings)

    def on(self, device: torch.device) -> "LogitRules":
        """Return the rules with tensors on a device, sent there the first time."""
        if device.type == "cpu":
            return self
        there = self._elsewhere.get(device)
        if there is None:
            named = ("bias_ids", "bias", "allowed", "endings")
            tensors = {name: getattr(self, name) for name in named}
            sent = {name: each.to(device) for name, each in tensors.items() if each is not None}
            there = self._elsewhere[device] = replace(self, **sent)
        return there

    def apply(self, logits: torch.Tensor, output: Sequence[int], num_generated: int) -> None:
        """Change one row's `logits` [vocab]; `output` ends in the generated tokens."""
        there = self.on(logits.device)
        if there.bias_ids is not None and there.bias is not None:
            logits[there.bias_ids] += there.bias
        if there.allowed is not None:
            logits.masked_fill_(~there.allowed, -torch.inf)
        if self.bad_words is not None:
            forbidden = self.bad_words.forbidden_after(output, num_generated)
            logits[[i for i in forbidden if i < len(logits)]] = -torch.inf

    def hold_back_endings(self, logits: torch.Tensor, *, unless_alone: bool) -> None:
        """Put what ends an output out of reach; not what alone is left, if that is an exception."""
        endings = self.on(logits.device).endings
        if endings is not None:
            before = logits[endings]
            logits[endings] = -torch.inf
            if unless_alone and bool(logits.max() == -torch.inf):
                logits[endings] = before


def _tokens_of(words: Iterable[str], tokenizer: Tokenizer) -> list[tuple[int, ...]] | RequestError:
    """Return the tokens of each word, as it begins an output and as it stands behind a space."""
    found: list[tuple[int, ...]] = []
    for word in words:
        for spelling in (word.lstrip(), " " + word.lstrip()):
            token_ids = tokenizer.encode_word(spelling)
            if isinstance(token_ids, RequestError):
                return _refused("bad_words", f"bad_words cannot be tokenized: {word!r:.80}")
            if token_ids:
                found.append(token_ids)
    return found


def _refused(param: str, message: str) -> RequestError:
    message = message.encode("utf-8", "backslashreplace").decode()
    return RequestError(code="invalid_request", message=message, param=param, stage="validate")
