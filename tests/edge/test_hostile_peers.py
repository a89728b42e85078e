"""Peers that send too much: a broker without bounds, and those who may publish commands and mean no good."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from edge.mqtt_session import PACKET_BYTES, PACKET_BYTES_MQTT3
from tests.broker import wait_until
from tests.edge.device import warnings
from tests.edge.peer import Peer
from tests.edge.test_control import Asker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from tests.broker import Broker, Subscriber
    from tests.edge.device import Device

pytestmark = pytest.mark.broker

TOPIC = b"footfall/t1/cmd/ping"
ENDLESS = b"\x30\xff\xff\xff\x7f"
"""The head of a PUBLISH of 268,435,455 bytes, the most that MQTT can announce."""


def publish(payload_bytes: int, *, is_mqtt5: bool = True) -> bytes:
    """Make a PUBLISH with QoS 0 and a payload of so many bytes."""
    body = len(TOPIC).to_bytes(2, "big") + TOPIC + bytes([0] * is_mqtt5) + b"x" * payload_bytes
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left % 128 | 128]), left // 128
    return b"\x30" + length + bytes([left]) + body


def test_a_packet_without_end_costs_the_connection_and_no_memory(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    with Flood(itertools.chain([ENDLESS], itertools.repeat(b"x" * 65536))) as peer:
        device = devices(peer.port)
        tracemalloc.start()
        try:
            device.drain_until(lambda: warnings(caplog), "a complaint")
            assert tracemalloc.get_traced_memory()[1] < 3e6
        finally:
            tracemalloc.stop()
        device.walk(3)
        assert device.outbox.depth == 3
    (line,) = warnings(caplog)
    assert f"it sends a packet of 268435455 bytes, where {PACKET_BYTES} are allowed; steps wait in the outbox" in line


def test_one_turn_reads_a_bounded_number_of_bytes(devices: Callable[..., Device]) -> None:
    with Flood(itertools.repeat(publish(PACKET_BYTES - 100))) as peer:
        device = devices(peer.port)
        device.connect()
        session = device.publisher._link.session
        assert session is not None
        heard = []
        for _ in range(50):
            session.wait(5.0)
            session.turn()
            heard.append(len(session.messages))
            session.messages.clear()
        assert not session.ended
        assert max(heard) <= 5, "64 KiB"
        assert sum(heard) >= 50


def test_over_mqtt_3_a_large_command_is_refused_and_the_connection_holds(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    with Flood([publish(500_000, is_mqtt5=False)], refuses_mqtt5=True) as peer:
        device = devices(peer.port)
        device.drain_until(lambda: b"reply/ping" in peer.received, "the refusal")
        assert b"the command has 500000 bytes; 4096 are the most" in peer.received
        assert device.publisher.connected
    assert [line for line in warnings(caplog) if "a packet of" in line] == []


def test_over_mqtt_3_a_huge_command_costs_the_connection_and_the_line_names_the_brokers_limit(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    with Flood([publish(PACKET_BYTES_MQTT3, is_mqtt5=False)], refuses_mqtt5=True) as peer:
        device = devices(peer.port)
        device.drain_until(lambda: warnings(caplog), "a complaint")
    assert "message_size_limit in Mosquitto" in warnings(caplog)[0]


def test_large_commands_do_not_make_the_device_deaf(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    """Mosquitto 2.0.11 never frees the places of QoS 1 messages that are larger than we take."""
    device = devices(broker.port)
    device.connect()
    asker = Asker(broker.port)
    asker.ask("footfall/t1/cmd/ping", b'{"transaction":"before"}')
    device.drain_until(lambda: subscriber.on("reply/ping"), "the first reply")
    for _ in range(40):
        asker.ask("footfall/t1/cmd/ping", b"x" * 100_000)
    asker.ask("footfall/t1/cmd/ping", b'{"transaction":"after"}')
    device.drain_until(lambda: len(subscriber.on("reply/ping")) == 2, "the reply after the large ones")
    assert subscriber.on("reply/ping")[1].json()["transaction"] == "after"
    asker.close()


def test_retained_commands_on_many_topics_are_one_line(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    asker = Asker(broker.port)
    for number in range(100):
        asker.ask(f"footfall/t1/cmd/x{number}", b"x", retain=True)
    wait_until(lambda: len(subscriber.on("x99")) == 1)
    device = devices(broker.port)
    device.connect()
    device.drain_until(lambda: warnings(caplog), "a complaint")
    asker.ask("footfall/t1/cmd/ping", b"{}")
    device.drain_until(lambda: subscriber.on("reply/ping"), "the reply to what came after them")
    (line,) = warnings(caplog)
    assert "retained commands are ignored, such as 'footfall/t1/cmd/x" in line
    asker.close()


class Flood(Peer):
    """Accepts connections as a broker does, and then sends what it was given, as fast as it is taken."""

    def __init__(self, chunks: Iterable[bytes], *, refuses_mqtt5: bool = False) -> None:
        super().__init__()
        self.received = b""
        self._chunks, self._refuses_mqtt5 = chunks, refuses_mqtt5

    def _serve(self, other: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone
            self._flood(other)

    def _flood(self, other: socket.socket) -> None:
        hello = b""
        while b"MQTT" not in hello or len(hello) < 10:
            hello += self._read(other)
        if hello[hello.index(b"MQTT") + 4] == 5 and self._refuses_mqtt5:
            return
        self._send(other, b"\x20\x02\x00\x00" if self._refuses_mqtt5 else b"\x20\x03\x00\x00\x00")
        for chunk in self._chunks:
            self._send(other, chunk)
        while not self._stopping.is_set():
            self.received += self._read(other)

    def _read(self, peer: socket.socket) -> bytes:
        while not self._stopping.is_set():
            try:
                content = peer.recv(65536)
            except TimeoutError:
                continue
            if content:
                return content
            break
        raise ConnectionAbortedError

    def _send(self, peer: socket.socket, content: bytes) -> None:
        while content:
            if self._stopping.is_set():
                raise ConnectionAbortedError
            try:
                content = content[peer.send(content) :]
            except TimeoutError:
                continue
