"""A Redis that takes its time: a relay before a real one, whose answers come late.

Knows Unix sockets and no protocol. Answers keep their order, and those that leave together arrive
together: it is the way that is long, not the server that is slow.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 65_536


@contextmanager
def late_answers(target: Path, listen: Path, late_s: float) -> Iterator[str]:
    """Relay what comes to `listen` for as long as the block lasts; yields the URL for clients."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay", daemon=True)
    thread.start()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(str(target))
        await asyncio.gather(_pump(reader, far_writer, 0.0), _pump(far_reader, writer, late_s))

    serving = asyncio.start_unix_server(relay, str(listen))
    server = asyncio.run_coroutine_threadsafe(serving, loop).result(10)
    try:
        yield f"unix://{listen}?db=0"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):  # hung up on, which ends it as well
        while data := await reader.read(_CHUNK_BYTES):
            loop.call_later(late_s, writer.write, data)
    loop.call_later(late_s, writer.close)
