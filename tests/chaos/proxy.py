"""A TCP proxy that breaks connections: late, slow, stalled, cut in mid-packet, half-open, refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from typing import Self

CHUNK_BYTES = 4096
TICK_S = 0.05


class Connection:
    """A client and the upstream server that it is connected to."""

    def __init__(self, client: StreamWriter, upstream: StreamWriter) -> None:
        self.client, self.upstream = client, upstream
        self.orphaned = False

    def reset(self) -> None:
        """Send RST both ways."""
        for writer in (self.client, self.upstream):
            _abort(writer)

    def orphan(self) -> None:
        """Cut the server's side off; the client is told nothing and may go on sending."""
        self.orphaned = True
        _abort(self.upstream)


class ChaosProxy:
    """Listens on `host` at a free port, in a thread of its own; faults may be set from any thread at any time.

    delay_s: every chunk is held back so long. bytes_per_s: 0 is no limit. stalled: nothing is read or sent on.
    refusing: new connections are reset. cut_after: after so many more bytes a connection is reset in mid-packet.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.stalled = False
        self.refusing = False
        self.cut_after: int | None = None
        self.port = 0
        self._target, self._host = target, host
        self._connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10.0), "the proxy does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10.0)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many clients are connected, orphans included."""
        return len(self._connections)

    def heal(self) -> None:
        """Let everything pass again."""
        self.delay_s, self.bytes_per_s, self.cut_after = 0.0, 0, None
        self.stalled = self.refusing = False

    def reset_all(self) -> None:
        """Reset every connection, both ways."""
        for one in list(self._connections):
            self._loop.call_soon_threadsafe(one.reset)

    def orphan_all(self) -> None:
        """Leave every client with a connection that nobody hears."""
        for one in list(self._connections):
            self._loop.call_soon_threadsafe(one.orphan)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, self._host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for one in list(self._connections):
            one.reset()
        while self._connections:  # noqa: ASYNC110  set from other threads
            await asyncio.sleep(TICK_S)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            _abort(writer)
            return
        connection = Connection(writer, to_server)
        self._connections.add(connection)
        try:
            await asyncio.gather(self._pump(reader, to_server, connection), self._pump(from_server, writer, connection))
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def _pump(self, reader: StreamReader, writer: StreamWriter, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                while self.stalled:  # noqa: ASYNC110  set from other threads
                    await asyncio.sleep(TICK_S)
                await asyncio.sleep(self.delay_s)
                if not connection.orphaned:
                    await self._send(data, writer, connection)
        if connection.orphaned and writer is connection.client:
            return  # the client must not be told
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    async def _send(self, data: bytes, writer: StreamWriter, connection: Connection) -> None:
        if self.cut_after is not None:
            passed, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
            if self.cut_after <= 0:
                self.cut_after = None
                writer.write(passed)
                await writer.drain()
                await asyncio.sleep(TICK_S)  # the part must have arrived when the reset comes
                connection.reset()
                return
        step = max(1, round(self.bytes_per_s * TICK_S)) if self.bytes_per_s else len(data)
        for begin in range(0, len(data), step):
            writer.write(data[begin : begin + step])
            await writer.drain()
            await asyncio.sleep(TICK_S if self.bytes_per_s else 0.0)


def _abort(writer: StreamWriter) -> None:
    """Close with RST instead of FIN."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
