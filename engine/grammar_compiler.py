"""Grammars compiled beside the loop, and the rows that wait for theirs. Knows threads and time.

submit -> cached? -> a thread compiles -> ready: the rows go on, or end with the reason
                                       -> over budget: they end, and the thread is given up;
                                          what it finds after all is for the rows that come later
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic

from .grammar import Grammar, GrammarVocabulary
from .outputs import RequestError
from .sequence import Sequence
from .structured_outputs import StructuredOutputs

_PARAM = "structured_outputs"
_MAX_CACHED = 256  # grammars
_NUM_THREADS = 2
_MAX_GIVEN_UP = 4  # threads that may be stuck beside those; llguidance's own limits free them


class Compilation:
    """One form on its way to a grammar.

    Attributes:
        form: what is compiled.
        started_at: when a thread took it up, None before.
        result: the grammar, or why there is none; None before it is known. A grammar that took
            too long may still come.
    """

    __slots__ = ("form", "result", "started_at")

    def __init__(self, form: StructuredOutputs) -> None:
        self.form = form
        self.started_at: float | None = None
        self.result: Grammar | RequestError | None = None


class GrammarCompiler:
    """Compiles forms in threads of its own, each for no longer than `timeout_s`.

    A form that is known already costs nothing. All methods are called by the engine's thread.
    """

    def __init__(
        self, make_vocabulary: Callable[[], GrammarVocabulary], *, timeout_s: float
    ) -> None:
        self._make_vocabulary = make_vocabulary
        self._timeout_s = timeout_s
        self._cache: OrderedDict[StructuredOutputs, Compilation] = OrderedDict()
        self._rows: dict[Sequence, Compilation] = {}
        self._lock = threading.Condition()  # of all that follows, and of what compilations say
        self._todo: deque[Compilation] = deque()
        self._num_threads = 0
        self._num_given_up = 0
        self._vocabulary: GrammarVocabulary | RequestError | None = None
        self._making_vocabulary = threading.Lock()

    def __len__(self) -> int:
        """Count the rows that wait."""
        return len(self._rows)

    def find(self, form: StructuredOutputs) -> Compilation:
        """Return the compilation of a form, which begins now if it is new."""
        compilation = self._cache.get(form)
        if compilation is None:
            compilation = self._cache[form] = Compilation(form)
            self._begin(compilation)
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(form)
        return compilation

    def park(self, sequence: Sequence, compilation: Compilation) -> None:
        """Let a row wait until its grammar is there."""
        self._rows[sequence] = compilation

    def drop(self, sequence: Sequence) -> bool:
        """Let a row go; return whether it waited."""
        return self._rows.pop(sequence, None) is not None

    def ready(self, patience_s: float = 0.0) -> list[tuple[Sequence, Grammar | RequestError]]:
        """Return the rows that need wait no longer, in order; wait for one so long at most."""
        with self._lock:
            ready = self._ready()
            if not ready and patience_s and self._rows:
                self._lock.wait(patience_s)
                ready = self._ready()
        return ready

    def _ready(self) -> list[tuple[Sequence, Grammar | RequestError]]:
        now = monotonic()
        for compilation in {*self._rows.values()}:
            started_at = compilation.started_at
            is_over = started_at is not None and now - started_at > self._timeout_s
            if is_over and compilation.result is None:
                self._give_up(compilation)
        return [(s, c.result) for s, c in self._rows.items() if c.result is not None]

    def _begin(self, compilation: Compilation) -> None:
        with self._lock:
            self._todo.append(compilation)
            self._start_thread()

    def _start_thread(self) -> None:
        if self._todo and self._num_threads < _NUM_THREADS:
            self._num_threads += 1
            # A daemon: a grammar that takes for ever must not keep the process from its end.
            threading.Thread(target=self._work, name="grammar", daemon=True).start()

    def _give_up(self, compilation: Compilation) -> None:
        compilation.result = RequestError(
            code="grammar_error",
            message=f"{_PARAM} took longer than {self._timeout_s:g} s to compile; simplify them",
            param=_PARAM,
            stage="validate",
        )
        if self._num_given_up < _MAX_GIVEN_UP:  # or else the others wait for it
            self._num_given_up += 1
            self._num_threads -= 1
            self._start_thread()

    def _work(self) -> None:
        vocabulary = self._find_vocabulary()
        while True:
            with self._lock:
                if self._num_threads > _NUM_THREADS or not self._todo:
                    self._num_threads -= 1
                    return
                compilation = self._todo.popleft()
                compilation.started_at = monotonic()
            if isinstance(vocabulary, RequestError):
                result = vocabulary
            else:
                result = _compile(vocabulary, compilation.form)
            with self._lock:
                if compilation.result is not None and self._num_given_up:  # and here again
                    self._num_given_up -= 1
                    self._num_threads += 1
                compilation.result = result
                self._lock.notify_all()

    def _find_vocabulary(self) -> GrammarVocabulary | RequestError:
        with self._making_vocabulary:
            if self._vocabulary is None:
                try:
                    self._vocabulary = self._make_vocabulary()
                except BaseException as error:  # llguidance's, or its panic; or there is none
                    message = f"{_PARAM} cannot be served: {type(error).__name__}: {error}"
                    self._vocabulary = _error(message)
            return self._vocabulary


def _compile(vocabulary: GrammarVocabulary, form: StructuredOutputs) -> Grammar | RequestError:
    try:
        return vocabulary.compile(form)
    except BaseException as error:  # a panic in llguidance is no Exception, and is this form's
        return _error(f"{_PARAM} cannot be compiled: {type(error).__name__}: {error}")


def _error(message: str) -> RequestError:
    return RequestError(code="grammar_error", message=message[:300], param=_PARAM)
