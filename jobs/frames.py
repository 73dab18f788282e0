"""What a worker and its engine process say to each other. Knows shapes and bytes, no sockets.

    worker -> engine                        engine -> worker
    RunShard    rows of input.parquet       Ready         the model is loaded, a canary came through
                                            ShardLanded   its part is on disk
    AbortShard  lease lost, job cancelled   ShardFailed   the shard as a whole could not be run
    Generate    one interactive request     Deltas        new text of interactive requests
    AbortRequest                            Progress      every quarter of a second
    TrySuspects suspects may run, or not    Unusable      this model can never be served

A frame on the wire is a length (4 bytes, big-endian) and that many bytes of msgpack.
"""

import struct
from enum import StrEnum
from typing import Any

import msgspec

from ..engine.outputs import Priority, RequestError
from .part_counts import PartCounts
from .settings import Settings
from .tool_use import ToolCall, ToolUse

VERSION = 5  # of these frames; one more whenever an older side would misunderstand
REQUEST_VERSION = 2  # the newest of interactive requests that is understood
LARGEST_FRAME = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class BrokenFrame(ValueError):
    """The bytes are no frame of ours; what follows them cannot be understood either."""


class Configuration(msgspec.Struct, frozen=True):
    """What the engine process is to serve, and with which settings; it comes over its stdin."""

    settings: Settings
    model: str
    worker: str
    report: str | None = None  # the file that tells where it was, should it die
    version: int = 1  # of the frames that the worker speaks


class RunShard(msgspec.Struct, frozen=True, tag=True):
    """Run all rows of a shard and land them as attempt `attempt`; it was tried `tries` times."""

    job_id: str
    index: int
    attempt: int
    tries: int = 1


class AbortShard(msgspec.Struct, frozen=True, tag=True):
    """Forget a shard: drop its rows, land nothing."""

    job_id: str
    index: int
    attempt: int


class Embed(msgspec.Struct, frozen=True):
    """Asks for the prompt's vector, of length 1, in place of an output."""

    dimensions: int | None = None  # keep so many leading numbers


class InteractiveRequest(msgspec.Struct, frozen=True, tag=True):
    """One request of a person who waits: exactly one of prompt, token ids and messages is given."""

    request_id: str
    model: str
    prompt: str | None = None
    token_ids: tuple[int, ...] | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    sampling: dict[str, Any] = {}
    tools: ToolUse | None = None
    template_options: dict[str, Any] = {}
    echo: bool = False  # begin the answer with the prompt
    embed: Embed | None = None  # since version 2
    priority: int = Priority.INTERACTIVE
    version: int = 1  # the oldest that says all of this
    cache_salt: str = ""  # its tenant: nobody tells by the time it takes what others have asked


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Run an interactive request ahead of all bulk rows."""

    request: InteractiveRequest


class AbortRequest(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for this request any more."""

    request_id: str


class TrySuspects(msgspec.Struct, frozen=True, tag=True):
    """Whether rows that have killed an engine may be tried now; at first they may not."""

    is_on: bool


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The engine serves."""

    pid: int
    slots: int
    has_chat_template: bool
    max_model_len: int | None
    revision: str = ""  # of the model, another one wherever answers may be others; empty: unknown


class ShardLanded(msgspec.Struct, frozen=True, tag=True):
    """A shard's part is on disk, written now or found there; `counts` are those of the file."""

    job_id: str
    index: int
    attempt: int
    counts: PartCounts


class Trouble(StrEnum):
    """Why a shard could not be run as a whole, and so what is to be done."""

    STORAGE = "storage"  # no room to land it: try again until there is
    LASTING = "lasting"  # its files are damaged: no retry will help
    NEWER = "newer"  # its job is for newer workers: hand it back, until one of them takes it
    UNEXPECTED = "unexpected"  # try again a few times


class ShardFailed(msgspec.Struct, frozen=True, tag=True):
    """A shard could not be run as a whole; none of its rows has landed."""

    job_id: str
    index: int
    attempt: int
    message: str
    trouble: Trouble = Trouble.UNEXPECTED


class ShardProgress(msgspec.Struct, frozen=True):
    """How far one shard is; `rows` are finished rows of `total`."""

    job_id: str
    index: int
    attempt: int
    rows: int
    total: int
    failed: int
    completion_tokens: int
    suspects: int = 0  # rows that may kill the engine, and wait until they may be tried


class Progress(msgspec.Struct, frozen=True, tag=True):
    """What the engine did so far; `steps` standing still while rows run means it hangs."""

    steps: int
    running_rows: int
    waiting_rows: int
    unread_shards: int
    tokens: int
    kv_used_fraction: float
    proved_at_ms: int
    shards: tuple[ShardProgress, ...] = ()
    slow_step_s: float = 0.0  # of the latest steps 99 of 100 took no longer
    prompt_tokens: int = 0  # of all rows and requests that have begun
    cached_tokens: int = 0  # those of them that the prefix cache held already
    preemptions: int = 0


class Delta(msgspec.Struct, frozen=True):
    """New text of one sample of a request. `finish_reason` or `error` ends the sample.

    Token counts are running totals of the sample.
    """

    request_id: str
    sample_index: int = 0
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[dict[str, Any], ...] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    error: RequestError | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    is_last: bool = False  # nothing follows for the whole request
    vector: bytes | None = None  # what was asked for with `Embed`: float32, little-endian


class Deltas(msgspec.Struct, frozen=True, tag=True):
    """What one engine step added to all interactive requests."""

    deltas: tuple[Delta, ...]


class ModelTrouble(StrEnum):
    """Why a model cannot be loaded, and so what the worker does."""

    HOPELESS = "hopeless"  # there is no such model, or it can never be served: end
    CORRUPT = "model_corrupt"  # its files are damaged: wait, somebody may mend them
    OUTDATED = "outdated"  # Penstock was replaced under the worker: end, to be started anew


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be loaded, and trying again at once would not help."""

    message: str
    trouble: ModelTrouble = ModelTrouble.HOPELESS


ToEngine = RunShard | AbortShard | Generate | AbortRequest | TrySuspects
ToWorker = Ready | ShardLanded | ShardFailed | Deltas | Progress | Unusable
Frame = ToEngine | ToWorker


class FrameDecoder:
    """Cuts a stream of bytes into frames of one direction."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes as they arrive; return the frames that are complete now.

        Raises:
            BrokenFrame: a length is out of bounds, or a body is no frame of this direction.
        """
        self._buffer += data
        frames = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > LARGEST_FRAME:
                raise BrokenFrame(f"a frame of {length} bytes; at most {LARGEST_FRAME} are taken")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            try:
                frames.append(self._decoder.decode(self._buffer[start + _LENGTH.size : end]))
            except (msgspec.DecodeError, RecursionError) as error:
                raise BrokenFrame(f"not a frame: {error}") from error
            start = end
        del self._buffer[:start]
        return frames


def encode(frame: Frame) -> bytes:
    """Return a frame as it goes over the wire.

    Raises:
        BrokenFrame: the frame is larger than the other side would take.
    """
    body = msgspec.msgpack.encode(frame)
    if len(body) > LARGEST_FRAME:
        raise BrokenFrame(f"a frame of {len(body)} bytes; at most {LARGEST_FRAME} can be sent")
    return _LENGTH.pack(len(body)) + body
