"""What a model's own files say about requests: tokens, context, forms. Loads no weights.

Needs the packages of a worker; where they, or the files, are missing, it says so.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .fake_engine import PREFIX, FakeModel, FakeTokenizer
from .model import InvalidSampling, RequestError
from .prompt_encoder import PromptEncoder, TokenIds
from .row_request import RowRequest

MAX_FORMS = 256  # schemas and grammars of which it is remembered whether they can be

Form = Any  # StructuredOutputs, of which nothing is known here but that it can be compared
FormCheck = Callable[[Form], RequestError | None]


class NoModelAtHand(ValueError):
    """The model's tokenizer cannot be used here; the message says why."""


class ModelAtHand:
    """A model's tokenizer, context and grammars.

    Attributes:
        context_window: tokens of a prompt and its answer; None where nobody knows.
        unchecked: why forms could not be looked at; None if they could.
    """

    def __init__(
        self, encoder: PromptEncoder, context_window: int | None, check_form: FormCheck
    ) -> None:
        self.context_window = context_window
        self.unchecked: str | None = None
        self._encoder = encoder
        self._check_form = check_form
        self._forms: OrderedDict[Form, RequestError | None] = OrderedDict()

    def encode(self, wish: RowRequest) -> TokenIds | RequestError:
        """Return the tokens of a request's prompt, as a worker would see them."""
        return self._encoder.encode_row(wish.prompt, wish.tools, wish.template_options)

    def fault_of(self, wish: RowRequest) -> RequestError | None:
        """Tell whether the answer's form cannot be, or the model cannot call tools."""
        params = wish.params
        if wish.tools is not None:
            try:
                bound = wish.tools.sampling_params(params, self._encoder.tool_format)
            except InvalidSampling as error:
                return RequestError("invalid_request", str(error), error.param, stage="validate")
            if isinstance(bound, RequestError):
                return bound
            params = bound
        return None if params.structured_outputs is None else self._known(params.structured_outputs)

    def _known(self, form: Form) -> RequestError | None:
        """Check a form, unless an earlier row had it; the latest are remembered."""
        if form not in self._forms:
            try:
                self._forms[form] = self._check_form(form)
            except (ImportError, ValueError) as error:  # no grammars here: not the row's fault
                self.unchecked = f"whether the answers' form can be: {error}"[:300]
                self._forms[form] = None
            if len(self._forms) > MAX_FORMS:
                self._forms.popitem(last=False)
        self._forms.move_to_end(form)
        return self._forms[form]


def model_at_hand(
    name: str, *, context_window: int | None, max_model_len: int | None, tool_format: str
) -> ModelAtHand:
    """Load what a model's files say.

    Args:
        name: a directory, a GGUF file or a hub id, as workers are given it.
        context_window: what its workers say; else the model's own counts, and `max_model_len`.
        max_model_len: the longest that the installation allows.
        tool_format: how the model writes tool calls, or `auto`.

    Raises:
        NoModelAtHand: it cannot be used here.
    """
    if name.startswith(PREFIX):
        try:
            fake = FakeModel.from_name(name)
        except ValueError as error:
            raise NoModelAtHand(str(error)) from error
        encoder = PromptEncoder(FakeTokenizer(fake), tool_format)
        return ModelAtHand(encoder, context_window or fake.context, lambda form: None)
    try:
        from ..engine.architecture import UnknownFamily, read_architecture
        from ..engine.foreign_architecture import read_foreign_architecture
        from ..engine.model_place import resolve_tokenizer
        from ..engine.tokenizer import Tokenizer
    except ImportError as error:
        raise NoModelAtHand(f"{error}; pip install 'penstock[worker]' where this runs") from error
    try:
        place = resolve_tokenizer(name)
        tokenizer = Tokenizer.from_directory(place)
        try:
            architecture = read_architecture(place)
        except UnknownFamily:  # transformers runs it
            architecture = read_foreign_architecture(place)
    except ValueError as error:  # not found, not supported, damaged: each has a class of its own
        raise NoModelAtHand(str(error)) from error
    own = architecture.max_position_embeddings
    return ModelAtHand(
        PromptEncoder(tokenizer, tool_format),
        context_window or min(own, max_model_len or own),
        _form_check(tokenizer, architecture.vocab_size, architecture.eos_token_ids),
    )


def _form_check(tokenizer: Any, vocab_size: int, eos_token_ids: tuple[int, ...]) -> FormCheck:
    """Return what compiles a form; the vocabulary for it is made when the first one comes."""
    from ..engine.grammar import GrammarVocabulary

    vocabularies: list[GrammarVocabulary] = []

    def check(form: Form) -> RequestError | None:
        if not vocabularies:
            vocabularies.append(
                GrammarVocabulary(tokenizer, vocab_size=vocab_size, eos_token_ids=eos_token_ids)
            )
        grammar = vocabularies[0].compile(form)
        return grammar if isinstance(grammar, RequestError) else None

    return check
