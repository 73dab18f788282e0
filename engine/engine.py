"""The loop: requests in, a step at a time, outputs out. Knows neither sockets nor queues.

The life of a request, in the order in which this file tells it:

    1. add       it is checked, and becomes one sequence for each sample
    2. schedule  the step's sequences are chosen, and how many tokens of each
    3. launch    the model computes them; those that have caught up get their next token. The next
                 step may be scheduled and launched meanwhile
    4. update    full blocks are shared, endings are found, text is cut at stop strings
    5. collect   what happened is handed out; the last output of a sample says why it ended

Whatever goes wrong with one row ends that row with an error, and no other.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import count

from .block_pool import BlockPool
from .config import EngineConfig
from .cores import usable_cores
from .detokenizer import Detokenizer
from .device_steps import DeviceSteps
from .device_stream import using
from .grammar import GrammarVocabulary
from .grammar_compiler import GrammarCompiler
from .logit_rules import LogitRules, RuleBook
from .metrics import EngineCounters, EngineStats
from .model_place import resolve_model
from .outputs import FinishReason, Request, RequestError, StepOutput
from .request_checks import refusal_of
from .runner import ModelRunner
from .scheduler import Scheduler
from .sequence import Ending, Sequence, SequenceStatus
from .step import Step, StepResult
from .step_executor import InlineExecutor, StepExecutor, StepHandle, ThreadExecutor
from .step_launcher import StepLauncher
from .step_runner import Runner, StepRunner
from .tokenizer import Tokenizer
from .warm_up import warm_up

_MAX_RESERVED = 4  # slots kept for interactive requests; more come from preempting bulk rows
_PATIENCE_S = 0.005  # in which an engine with nothing else to do waits for a grammar
_RESERVED_PART = 16  # but never more than one slot in so many


@dataclass(frozen=True, slots=True)
class _Flight:
    """A step that is being computed."""

    step: Step
    handle: StepHandle

    @property
    def is_open(self) -> bool:
        """Whether it is not known yet how many tokens it brings."""
        return self.step.num_repeats > 1


class Engine:
    """Runs requests together, as many as fit. One thread at a time may call it.

    Attributes:
        config: the settings it was made with.
        runner, tokenizer: the model's two halves.
        context_window: tokens that one sample can reach, prompt included.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        runner: Runner | None = None,
        tokenizer: Tokenizer | None = None,
        reserved_interactive_seqs: int | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer or Tokenizer.from_directory(resolve_model(config.model))
        self.runner: Runner = runner or ModelRunner(config)
        self._pool = BlockPool(self.runner.num_blocks, self.runner.block_size)
        self._step_runner = StepRunner(self.runner)
        on_device = DeviceSteps.of(self.runner, config) if config.device_steps else None
        if on_device is not None and self.runner.device.type == "cuda":
            with using(self.runner.device):
                warm_up(
                    on_device,
                    max_rows=config.max_num_seqs,
                    max_tokens=config.max_num_batched_tokens,
                )
        self._launcher = StepLauncher(self._step_runner, on_device)
        self.context_window = min(
            self.runner.max_model_len, self._pool.capacity * self._pool.block_size
        )
        if reserved_interactive_seqs is None:
            reserved_interactive_seqs = min(_MAX_RESERVED, config.max_num_seqs // _RESERVED_PART)
        self._scheduler = Scheduler(
            self._pool,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            reserved_interactive_seqs=reserved_interactive_seqs,
            enable_prefix_caching=config.enable_prefix_caching,
        )
        self._eos_token_ids = frozenset(self.runner.architecture.eos_token_ids)
        self._rule_book = RuleBook(
            self.tokenizer,
            vocab_size=self.runner.architecture.vocab_size,
            eos_token_ids=self._eos_token_ids,
        )
        make_vocabulary = partial(  # no method: it would keep a dropped engine and its weights
            GrammarVocabulary,
            self.tokenizer,
            vocab_size=self.runner.architecture.vocab_size,
            eos_token_ids=self._eos_token_ids,
            num_threads=config.num_threads or usable_cores(),
        )
        self._grammars = GrammarCompiler(make_vocabulary, timeout_s=config.grammar_timeout_s)
        self._live: dict[str, list[Sequence]] = {}
        self._arrivals = count()
        self._outputs: list[StepOutput] = []
        self._in_flight: deque[_Flight] = deque()  # oldest first: two while the older one lands
        self._is_async = config.async_steps
        self._executor: StepExecutor = (
            ThreadExecutor(self._launcher.begin, self.runner.device)
            if self._is_async
            else InlineExecutor(self._launcher.begin, self.runner.device)
        )
        self._counters = EngineCounters()

    # -- requests -----------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do or to tell."""
        return bool(self._live or self._outputs or self._in_flight)

    @property
    def num_running(self) -> int:
        """Sequences under way."""
        return self._scheduler.num_running

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for room, or for their grammar."""
        return self._scheduler.num_waiting + len(self._grammars)

    def add(self, request: Request) -> StepOutput | None:
        """Accept a request; return None, or the one output of a request that cannot run."""
        refusal = refusal_of(
            request,
            architecture=self.runner.architecture,
            context_window=self.context_window,
            is_taken=request.request_id in self._live,
        )
        rules = refusal or self._rule_book.find(request.params)
        if isinstance(rules, RequestError):
            self._counters.errors += 1
            return StepOutput(
                request.request_id,
                sample_index=0,
                finish_reason=FinishReason.ERROR,
                error=rules,
                num_prompt_tokens=len(request.prompt_token_ids),
            )
        is_pooled = request.pooling is not None
        num_samples = 1 if is_pooled else request.params.n
        sequences = [self._sequence(request, index, rules) for index in range(num_samples)]
        self._live[request.request_id] = sequences
        form = None if is_pooled else request.params.structured_outputs
        compilation = None if form is None else self._grammars.find(form)
        for sequence in sequences:
            if compilation is None:
                self._scheduler.add(sequence)
            else:
                self._grammars.park(sequence, compilation)
        return None

    def abort(self, request_id: str) -> None:
        """Take a request back. The next step tells of its end, and its blocks are free."""
        for sequence in list(self._live.get(request_id, ())):
            self._remove(sequence)
            self._report(sequence, Ending(FinishReason.ABORT))

    def _sequence(self, request: Request, sample_index: int, rules: LogitRules | None) -> Sequence:
        return Sequence(
            request,
            sample_index,
            detokenizer=Detokenizer(self.tokenizer, request.params.stop),
            arrival=next(self._arrivals),
            context_window=self.context_window,
            eos_token_ids=self._eos_token_ids,
            engine_seed=self.config.seed,
            model=self.config.model_name,
            rules=rules,
            counts_on_device=bool(self.config.device_steps),
        )

    # -- the step -----------------------------------------------------------------------------

    def step(self) -> list[StepOutput]:
        """Advance the requests by one step and return what became of them."""
        self._take_up_compiled()
        if self._in_flight and (self._in_flight[0].is_open or self._scheduler.must_look_first):
            self._land()
        num_in_flight = len(self._in_flight)
        if plan := self._scheduler.schedule():
            self._launch(plan)
        if num_in_flight or not self._is_async:
            self._land()
        return self._collect()

    def _launch(self, plan: dict[Sequence, int]) -> None:
        """Have a step computed; its rows are as if it had ended, but for the tokens it draws."""
        num_repeats = 1
        if not self.config.device_steps:  # which begins the next step meanwhile
            num_repeats = self._scheduler.reserve_repeats(plan, self.config.steps_per_turn)
        step = Step.of(
            plan, num_repeats=num_repeats, stops_at_ending=self._scheduler.num_waiting > 0
        )
        flight = _Flight(step, self._executor.launch(step))
        self._scheduler.launch(plan)  # only now: a step that could not be launched never ends
        self._in_flight.append(flight)

    def _land(self) -> None:
        """Take in what the oldest step in flight has brought, once it is there."""
        if not self._in_flight:
            return
        flight = self._in_flight[0]
        fault = flight.handle.exception()  # an interrupt of this wait leaves it in flight
        if fault is not None:
            self._give_up_flights()
            raise fault
        results = flight.handle.result()
        self._in_flight.popleft()
        self._scheduler.end_step()
        for num_repeated, result in enumerate(results):
            if num_repeated:
                self._scheduler.repeat(result.sequences)
            self._update(flight.step, result)

    def _give_up_flights(self) -> None:
        """Wait until no step is being computed any more, and take nothing in."""
        while self._in_flight:
            self._in_flight[0].handle.exception()
            self._in_flight.popleft()
            self._scheduler.end_step()

    def _take_up_compiled(self) -> None:
        """Let rows whose grammar has been compiled wait for room, or fail."""
        if not self._grammars:
            return
        is_idle = not (self._scheduler.num_running or self._scheduler.num_waiting or self._outputs)
        for sequence, grammar in self._grammars.ready(_PATIENCE_S if is_idle else 0.0):
            if isinstance(grammar, RequestError):
                self._fail(sequence, grammar)
            else:
                self._grammars.drop(sequence)
                sequence.matcher = grammar.begin()
                self._scheduler.add(sequence)

    def _update(self, step: Step, result: StepResult) -> None:
        """Record a step: its faults first, so that a faulty row's blocks are never shared.

        Rows that have ended meanwhile gain nothing.
        """
        for sequence, fault in result.faults.items():
            if sequence.status is not SequenceStatus.FINISHED:
                if fault.code == "engine_error":
                    self._scheduler.distrust(sequence)
                self._fail(sequence, fault)
        for sequence, records in result.prompt_logprobs.items():
            sequence.tell_prompt(records)
        for sequence, parts in result.pooled.items():
            if sequence.pooler is not None:
                sequence.pooler.add(parts)
        self._scheduler.publish(step.parts)
        self._counters.steps += 1
        for sequence, token_id in zip(result.sequences, result.token_ids, strict=True):
            if sequence.status is SequenceStatus.FINISHED:
                continue
            if sequence.pooler is not None:
                sequence.num_pending -= 1  # of the token that nobody asked for
                self._scheduler.remove(sequence)
                self._report(sequence, Ending(FinishReason.STOP))
                continue
            self._counters.generated_tokens += 1
            sequence.take_token(token_id)
            if sequence.logprobs is not None:
                sequence.logprobs.append(result.logprobs[sequence])
            if (
                sequence.is_watched
                or token_id in sequence.stop_token_ids
                or len(sequence.token_ids) >= sequence.max_num_tokens
            ):
                self._advance(sequence)

    def _collect(self) -> list[StepOutput]:
        outputs, self._outputs = self._outputs, []
        return outputs

    # -- one row ------------------------------------------------------------------------------

    def _advance(self, sequence: Sequence) -> None:
        """End a sequence whose newest token was its last; else tell of it when that is due."""
        try:
            ending = sequence.find_ending()
        except Exception as error:  # a tokenizer's, and this row's alone
            message = f"the output cannot be turned into text: {type(error).__name__}: {error}"
            self._fail(sequence, RequestError(code="engine_error", message=message[:300]))
            return
        if ending is not None and ending.error is not None:
            self._fail(sequence, ending.error)
        elif ending is not None:
            self._scheduler.finish(sequence)
            self._report(sequence, ending)
        elif sequence.is_report_due:
            self._report(sequence)

    def _fail(self, sequence: Sequence, error: RequestError) -> None:
        self._counters.errors += 1
        self._remove(sequence)
        self._report(sequence, Ending(FinishReason.ERROR, error=error))

    def _remove(self, sequence: Sequence) -> None:
        if self._grammars.drop(sequence):
            sequence.status = SequenceStatus.FINISHED
        else:
            self._scheduler.remove(sequence)

    def _report(self, sequence: Sequence, ending: Ending | None = None) -> None:
        """Put down what a sequence has gained since its last output; its end, if it has ended."""
        self._outputs.append(sequence.take_output(ending))
        if ending is not None:
            request_id = sequence.request.request_id
            samples = self._live[request_id]
            samples.remove(sequence)
            if not samples:
                del self._live[request_id]

    # -- looking in ---------------------------------------------------------------------------

    @property
    def revision(self) -> str:
        """The revision of its model; empty if nobody knows it. See `ModelRunner.revision`."""
        return self.runner.revision if isinstance(self.runner, ModelRunner) else ""

    def stats(self) -> EngineStats:
        """Return the engine's figures as of now."""
        return EngineStats(
            steps=self._counters.steps,
            running=self.num_running,
            waiting=self.num_waiting,
            kv_used_fraction=self._pool.used_fraction,
            prompt_tokens=self._scheduler.num_prompt_tokens,
            cached_tokens=self._scheduler.num_cached_tokens,
            generated_tokens=self._counters.generated_tokens,
            preemptions=self._scheduler.num_preemptions,
            errors=self._counters.errors,
            memory_errors=self._step_runner.num_memory_errors,
            device_steps=self._launcher.num_by_device,
            host_steps=self._launcher.num_by_host,
            device_errors=self._launcher.num_device_errors,
            capture_errors=self._launcher.num_capture_errors,
        )

    def check(self) -> None:
        """Verify that every block is accounted for, between any two steps.

        Raises:
            RuntimeError: the books do not balance.
        """
        self._scheduler.check()
        if self._scheduler.num_in_flight != len(self._in_flight):
            raise RuntimeError(
                f"{len(self._in_flight)} steps are in flight, the scheduler has "
                f"{self._scheduler.num_in_flight}"
            )
        num_live = sum(map(len, self._live.values()))
        if num_live != self.num_running + self.num_waiting:
            raise RuntimeError(
                f"{num_live} samples live, {self.num_running} run and {self.num_waiting} wait"
            )
