"""The engine process: `python -m penstock.jobs.engine_child FD PARENT`. One model, one socket.

It is spawned, never forked (a GPU and fork do not mix), dies with its worker, and holds nothing
that may not be lost at any moment: what has not landed will be run again.

    link       frames in and out                 shard-reader   rows -> requests
    intake     interactive prompts -> tokens     lander         rows -> part on disk
    main       the engine's steps
"""

import gc
import logging
import os
import queue
import signal
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ..engine.outputs import Request, RequestError
from ..engine.pooling import Pooling
from . import fake_engine
from .crash_report import report_crashes, report_exception
from .engine_loop import EngineLoop, Interactive
from .errors import CorruptModel
from .frame_link import FrameLink
from .frames import (
    VERSION,
    AbortRequest,
    AbortShard,
    Configuration,
    Generate,
    InteractiveRequest,
    ModelTrouble,
    Ready,
    RunShard,
    ShardFailed,
    ShardLanded,
    ToEngine,
    TrySuspects,
    Unusable,
)
from .lander import Lander
from .logs import configure_logging
from .model import InvalidSampling, SamplingParams
from .parent_death import die_with_parent
from .prompt_encoder import PromptEncoder
from .settings import Settings
from .shard_reader import ShardReader

_MOST_PROMPT_LOGPROBS = 200_000  # they travel in one frame
_RESERVED_SEQS = 4  # beside the bulk rows', for requests that somebody waits for
_FAKE_SEQS = 64  # rows that a made-up engine runs together, where nobody has said

logger = logging.getLogger(__name__)


class OutdatedWorker(ValueError):
    """The worker that started this process speaks another version of the frames."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"Penstock was replaced while its worker ran: the worker speaks version {version} of "
            f"the frames, its engine process {VERSION}; start the worker again"
        )


class EngineChild:
    """Wires the threads of the engine process together."""

    def __init__(self, link: FrameLink, configuration: Configuration) -> None:
        self._link = link
        self._slots = bulk_slots(configuration.settings, configuration.model)
        self._engine: Any = load_engine(configuration.settings, configuration.model)
        self._encoder = PromptEncoder(self._engine.tokenizer, configuration.settings.tool_format)
        self._requests: queue.SimpleQueue[InteractiveRequest | AbortRequest] = queue.SimpleQueue()
        self._lander = Lander(self._landed, configuration.settings.jobs_dir)
        self._loop = EngineLoop(
            self._engine,
            self._engine.tokenizer,
            send=link.send,
            on_shard_done=self._lander.submit,
            num_unread_shards=lambda: self._reader.num_waiting,
        )
        self._reader = ShardReader(
            configuration.settings.jobs_dir,
            configuration.worker,
            self._encoder,
            on_prepared=self._loop.inbox.put,
            on_outcome=link.send,
        )

    def run(self) -> None:
        """Prove the engine with one token, say so, and serve for ever."""
        self._loop.prove()
        gc.collect()
        gc.freeze()  # the model's objects live as long as the process: spare the collector
        self._reader.start()
        self._lander.start()
        for name, target in (("link", self._serve_link), ("intake", self._take_requests)):
            threading.Thread(target=target, name=name, daemon=True).start()
        self._link.send(
            Ready(
                pid=os.getpid(),
                slots=self._slots,
                has_chat_template=self._engine.tokenizer.has_chat_template,
                max_model_len=self._engine.context_window,
                revision=revision_of(self._engine),
            )
        )
        self._loop.run()

    def _landed(self, outcome: ShardLanded | ShardFailed) -> None:
        self._link.send(outcome)
        self._loop.inbox.put(outcome)

    def _serve_link(self) -> None:
        reason = self._link.run(self._take)
        if reason.startswith("garbage"):
            logger.error("%s; the worker will start another engine process", reason)
        os._exit(0)  # nothing here outlives the worker's interest in it

    def _take(self, frame: ToEngine) -> None:
        # An abort goes the way of what it aborts, so that it never overtakes it.
        match frame:
            case RunShard() | AbortShard():
                self._reader.submit(frame)
            case Generate():
                self._requests.put(frame.request)
            case AbortRequest():
                self._requests.put(frame)
            case TrySuspects():
                self._loop.inbox.put(frame)

    def _take_requests(self) -> None:
        while True:
            match self._requests.get():
                case InteractiveRequest() as request:
                    self._loop.inbox.put(self._prepared(request))
                case AbortRequest() as abort:
                    self._loop.inbox.put(abort)

    def _prepared(self, request: InteractiveRequest) -> Interactive:
        calls = request.tools.format_in(self._encoder.tool_format) if request.tools else None
        made = self._prepare(request)
        echo = ""
        if isinstance(made, Request):
            echo = self._encoder.echo_of(request, made.prompt_token_ids)
        return Interactive(request.request_id, made, calls, echo)

    def _prepare(self, request: InteractiveRequest) -> Request | RequestError:
        """Bring a request into the engine's form; whatever is wrong with it is its own error."""
        try:
            params = SamplingParams.from_mapping(request.sampling)
            if request.tools is not None:
                bound = request.tools.sampling_params(params, self._encoder.tool_format)
                if isinstance(bound, RequestError):
                    return bound
                params = bound
            token_ids = self._encoder.encode_request(request)
        except InvalidSampling as error:
            return RequestError("invalid_request", str(error), param=error.param, stage="validate")
        except Exception as error:  # a bug here must not silence the requests behind this one
            logger.exception("cannot prepare %s", request.request_id)
            return RequestError("internal_error", f"{type(error).__name__}: {error}")
        if isinstance(token_ids, RequestError):
            return token_ids
        num_records = len(token_ids) * (1 + (params.prompt_logprobs or 0))
        if params.prompt_logprobs is not None and num_records > _MOST_PROMPT_LOGPROBS:
            message = f"{num_records} log-probabilities of a prompt are too many for one answer"
            return RequestError("invalid_request", message, param="logprobs", stage="validate")
        return Request(
            request.request_id,
            tuple(token_ids),
            params,
            request.priority,
            cache_salt=request.cache_salt,
            pooling=Pooling(dimensions=request.embed.dimensions) if request.embed else None,
        )


def bulk_slots(settings: Settings, model: str) -> int:
    """Say how many bulk rows run together: as many as was said, else as suit the device."""
    if settings.max_num_seqs is not None:
        return settings.max_num_seqs
    if model.startswith(fake_engine.PREFIX):
        return _FAKE_SEQS
    from ..engine.config import device_of, most_rows

    return most_rows(device_of(settings.device))


def load_engine(settings: Settings, model: str) -> Any:
    """Load the model; only here, and only for a real one, is torch imported.

    Raises:
        CorruptModel: its files are damaged.
        ValueError: there is no such model, or it can never be served.
    """
    if model.startswith(fake_engine.PREFIX):
        fake = fake_engine.FakeModel.from_name(model)
        return fake_engine.FakeEngine(fake, slots=bulk_slots(settings, model))
    from ..engine.config import EngineConfig
    from ..engine.engine import Engine
    from ..engine.raw_file import DamageError
    from ..engine.weights import CorruptCheckpoint

    num_seqs = bulk_slots(settings, model) + _RESERVED_SEQS
    num_batched = settings.max_num_batched_tokens or 0
    config = EngineConfig(
        model=model,
        model_name=model,
        dtype=settings.dtype,
        quantization=settings.quantization,
        device=settings.device,
        max_num_seqs=num_seqs,
        max_num_batched_tokens=num_batched and max(num_seqs, num_batched),
        max_model_len=settings.max_model_len,
        kv_cache_gb=settings.kv_cache_gb,
        kv_cache_dtype=settings.kv_cache_dtype,
        num_threads=settings.num_threads,
    )
    try:
        return Engine(config, reserved_interactive_seqs=_RESERVED_SEQS)
    except (CorruptCheckpoint, DamageError) as error:
        raise CorruptModel(str(error)) from error


def revision_of(engine: Any) -> str:
    """Name the model's revision. Without one it serves all the same: only nothing is cached."""
    try:
        return engine.revision
    except (OSError, ValueError) as error:  # of files that were there a moment ago
        logger.warning("the model's revision cannot be told: %s", error)
        return ""


def main(arguments: list[str]) -> None:
    """Serve what stdin names, over the socket whose number is given, until the worker is gone."""
    descriptor, parent_pid = map(int, arguments)
    die_with_parent(parent_pid, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):  # the worker decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    configure_logging("engine")
    configuration = msgspec.json.decode(sys.stdin.buffer.read(), type=Configuration)
    report = report_crashes(Path(configuration.report)) if configuration.report else None
    threading.excepthook = partial(_end_with_thread, report)
    try:
        serve(descriptor, configuration)
    except BaseException as error:
        if report is not None:
            report_exception(report, error)
        raise


def _end_with_thread(report: TextIO | None, ended: threading.ExceptHookArgs) -> None:
    """End the process because one of its threads has ended: whatever came to it would be lost."""
    error = ended.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    name = ended.thread.name if ended.thread else "a thread"
    logger.critical("the engine process failed in %s", name, exc_info=error)
    if report is not None:
        report_exception(report, error)
    os._exit(1)


def serve(descriptor: int, configuration: Configuration) -> None:
    """Load the model and serve it for ever, or say why it can never be served."""
    link = FrameLink(socket.socket(fileno=descriptor), ToEngine)
    try:
        if configuration.version != VERSION:
            raise OutdatedWorker(configuration.version)
        child = EngineChild(link, configuration)
    except ValueError as error:
        message = f"cannot serve {configuration.model!r}: {error}"
        link.send(Unusable(message, _trouble_of(error)))
        link.run(lambda frame: None)  # until the worker has read it and hangs up
    else:
        child.run()


def _trouble_of(error: ValueError) -> ModelTrouble:
    if isinstance(error, CorruptModel):
        return ModelTrouble.CORRUPT
    is_outdated = isinstance(error, OutdatedWorker)
    return ModelTrouble.OUTDATED if is_outdated else ModelTrouble.HOPELESS


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException:
        logger.critical("the engine process failed", exc_info=True)
        os._exit(1)  # other threads must not keep a process without an engine alive
