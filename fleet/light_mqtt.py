"""A light MQTT 3.1.1 client for asyncio: CONNECT, PUBLISH with QoS 1, PINGREQ; a few kilobytes a connection.

For load tests only. The device uses paho, of which ten thousand clients in one process would be ten thousand threads.
Source: MQTT 3.1.1 (OASIS 2014), section 3.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _PINGREQ, _DISCONNECT = 0x10, 2, 0x30, 4, b"\xc0\x00", b"\xe0\x00"
_QOS_1, _DUP = 0x02, 0x08
_CLEAN_SESSION, _HAS_PASSWORD, _HAS_USERNAME = 0x02, 0x40, 0x80
_LEVEL_3_1_1 = 4
_MAX_LENGTH_BYTES = 4
_REASONS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it refuses the client id",
    3: "it is unavailable",
    4: "it refuses the user name or password",
    5: "it does not let this user in",
}


class RefusedError(ConnectionError):
    """The broker answered CONNECT with a refusal, or closed the connection instead of an answer."""


class Link(asyncio.Protocol):
    """One connection. on_ack(packet id) is called for each PUBACK; `ended` is set when the connection is gone."""

    __slots__ = ("_buffer", "_hello", "_on_ack", "_transport", "accepted", "ended")

    def __init__(self, hello: bytes, on_ack: Callable[[int], None]) -> None:
        self._hello, self._on_ack = hello, on_ack
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    def publish(self, topic: bytes, payload: bytes, packet_id: int, *, again: bool = False) -> None:
        """Send with QoS 1. packet_id: 1..65535, free at the moment; again: it was sent before on another connection."""
        body = _text(topic) + struct.pack("!H", packet_id) + payload
        self._write(bytes([_PUBLISH | _QOS_1 | (_DUP if again else 0)]) + _length(len(body)) + body)

    def ping(self) -> None:
        """Keep the connection alive."""
        self._write(_PINGREQ)

    def close(self) -> None:
        """Say goodbye and close."""
        self._write(_DISCONNECT)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT as soon as there is a connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._hello)
        self._hello = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if not self.accepted.done():
            self.accepted.set_exception(RefusedError(f"connection closed before CONNACK: {exc or 'no reason given'}"))
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Take whole packets off the stream."""
        data = self._buffer + data
        position = 0
        while (packet := _packet(data, position)) is not None:
            kind, body, position = packet
            if kind == _CONNACK and not self.accepted.done():
                self.accepted.set_result(body[1])
            elif kind == _PUBACK:
                self._on_ack(int.from_bytes(body[:2], "big"))
        self._buffer = data[position:]

    def _write(self, packet: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(packet)


async def dial(
    host: str,
    port: int,
    client_id: str,
    on_ack: Callable[[int], None],
    *,
    username: str | None = None,
    password: str | None = None,
    keepalive_s: int = 60,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 15.0,
) -> Link:
    """Connect and wait for the broker's word; raises OSError (RefusedError, TimeoutError) where there is no session."""
    hello = _hello(client_id, username, password, keepalive_s)
    async with asyncio.timeout(timeout_s):
        _, link = await asyncio.get_running_loop().create_connection(lambda: Link(hello, on_ack), host, port, ssl=tls)
        try:
            code = await link.accepted
        except BaseException:
            link.abort()
            raise
    if code:
        link.abort()
        raise RefusedError(f"{host}:{port}: {_REASONS.get(code, f'CONNACK code {code}')}")
    return link


def _hello(client_id: str, username: str | None, password: str | None, keepalive_s: int) -> bytes:
    flags = _CLEAN_SESSION | (_HAS_USERNAME if username else 0) | (_HAS_PASSWORD if password else 0)
    body = _text(b"MQTT") + bytes([_LEVEL_3_1_1, flags]) + struct.pack("!H", keepalive_s) + _text(client_id.encode())
    for text in (username, password):
        body += _text(text.encode()) if text else b""
    return bytes([_CONNECT]) + _length(len(body)) + body


def _text(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text


def _length(count: int) -> bytes:
    """Return the remaining length, 7 bits a byte (2.2.3)."""
    out = bytearray()
    while True:
        count, low = count >> 7, count & 0x7F
        out.append(low | (0x80 if count else 0))
        if not count:
            return bytes(out)


def _packet(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """Return (type, body, where the next begins) of the packet at `start`; None while it is incomplete."""
    length = 0
    for index in range(_MAX_LENGTH_BYTES):
        position = start + 1 + index
        if position >= len(data):
            return None
        length |= (data[position] & 0x7F) << (7 * index)
        if data[position] < 0x80:
            end = position + 1 + length
            return (data[start] >> 4, data[position + 1 : end], end) if end <= len(data) else None
    raise RefusedError("a packet length of more than four bytes: this is no MQTT broker")
