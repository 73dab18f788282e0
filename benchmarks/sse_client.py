"""Streams one chat over a bare socket, so that a thousand of them cost the client little.

Knows HTTP/1.1 in chunks as our server writes it, one frame per chunk, and nothing beyond that.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field

_FRAME = b"data: "
_DONE = b"data: [DONE]"


@dataclass(slots=True)
class Answer:
    """What became of one chat. Times count from when it was due, not from when it went."""

    due_s: float
    status: int = 0
    overhead_ms: float = 0.0
    retry_after_s: int | None = None
    text: str = ""
    times_s: list[float] = field(default_factory=list)  # of each frame with text
    end_s: float | None = None
    error: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it ended as it should."""
        return self.end_s is not None and self.error is None and self.status == 200

    @property
    def ttft_s(self) -> float:
        """The wait for the first token."""
        return self.times_s[0] - self.due_s

    @property
    def total_s(self) -> float:
        """The wait for the whole answer."""
        return (self.end_s or float("inf")) - self.due_s

    @property
    def gaps_s(self) -> list[float]:
        """The times between tokens."""
        return [b - a for a, b in zip(self.times_s, self.times_s[1:], strict=False)]


async def stream_chat(host: str, port: int, body: dict[str, object], due_s: float) -> Answer:
    """Send a chat and read it to its end."""
    answer = Answer(due_s)
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        answer.error = f"cannot connect: {error}"
        return answer
    try:
        payload = json.dumps({**body, "stream": True}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Content-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        )
        writer.write(head.encode() + payload)
        await _read_head(reader, answer)
        await _read_frames(reader, answer)
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        answer.error = f"{type(error).__name__}: {error}"
        answer.end_s = time.perf_counter()
    finally:
        writer.close()
    return answer


async def _read_head(reader: asyncio.StreamReader, answer: Answer) -> None:
    first = await reader.readline()
    if not first:
        raise ConnectionResetError("closed without an answer")
    answer.status = int(first.split()[1])
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"x-overhead-ms":
            answer.overhead_ms = float(value)
        if name.lower() == b"retry-after":
            answer.retry_after_s = int(value)


async def _read_frames(reader: asyncio.StreamReader, answer: Answer) -> None:
    while line := await reader.readline():
        if not line.startswith(_FRAME):
            if answer.status != 200 and line.startswith(b"{"):
                answer.error = json.loads(line)["error"]["code"]
                answer.end_s = time.perf_counter()
                return
            continue
        now_s = time.perf_counter()
        if line.startswith(_DONE):
            answer.end_s = now_s
            return
        data = json.loads(line[len(_FRAME) :])
        if "error" in data:
            answer.error = data["error"]["code"]
            answer.end_s = now_s
            return
        text = data["choices"][0]["delta"].get("content")
        if text:
            answer.text += text
            answer.times_s.append(now_s)
    answer.error = answer.error or "the connection ended before [DONE]"
