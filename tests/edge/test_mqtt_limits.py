"""What a broker allows: its Receive Maximum and Maximum Packet Size, packet ids, commands it will not hear."""

from __future__ import annotations

import logging
import struct
import time
from typing import TYPE_CHECKING

import pytest

from edge.mqtt_session import Limits
from tests.broker import Broker, Subscriber, wait_until
from tests.edge.device import STEP, named, warnings
from tests.edge.peer import Peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.edge.device import Device

pytestmark = pytest.mark.broker


def limited(directory: Path, *lines: str) -> Broker:
    folder = directory / "limited"
    folder.mkdir()
    broker = Broker(folder, "allow_anonymous true", *lines)
    broker.start()
    return broker


def test_the_brokers_word_arrives(tmp_path: Path, devices: Callable[..., Device]) -> None:
    broker = limited(tmp_path, "max_inflight_messages 3", "max_packet_size 2000")
    device = devices(broker.port)
    device.connect()
    session = device.publisher._link.session
    assert session is not None
    assert session.limits == Limits(receive_maximum=3, packet_bytes=2000)
    broker.stop()


def test_a_small_packet_size_makes_smaller_batches(tmp_path: Path, devices: Callable[..., Device]) -> None:
    broker = limited(tmp_path, "max_packet_size 1500")
    subscriber = Subscriber(broker.port)
    device = devices(broker.port, clock=clock_from(100.0))
    # Half a second apart, so that their size does not hang on how fast this loop is.
    for number in range(400):
        device.outbox.append(STEP, time.time() - 0.5 * (400 - number))
    device.publisher._steps._late_s = -1.0  # as if they had waited
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 400)
    assert subscriber.steps() == named(device.outbox.boot_id, 400)
    sizes = [len(one.payload) for one in subscriber.on("batch")]
    assert max(sizes) < 1500
    assert len(sizes) > 2
    subscriber.close()
    broker.stop()


def clock_from(start_s: float) -> Callable[[], float]:
    return lambda: start_s + time.monotonic()


def test_a_packet_size_below_a_single_step_is_one_line_and_the_steps_wait(
    tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    broker = limited(tmp_path, "max_packet_size 150")
    device = devices(broker.port)
    device.walk(5, pause_s=0.01)
    device.drain_until(lambda: [line for line in warnings(caplog) if "single step" in line], "a complaint")
    device.walk(5, pause_s=0.01)
    (line,) = [line for line in warnings(caplog) if "single step" in line]
    assert "150 bytes at most" in line
    assert "max_packet_size" in line
    assert device.outbox.depth == 10
    assert device.publisher.connected, "too large a packet would have ended the connection"
    broker.stop()


def test_a_discovery_message_that_is_too_large_is_said(
    tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    broker = limited(tmp_path, "max_packet_size 2000")
    device = devices(broker.port, MQTT__HOME_ASSISTANT="true")
    device.drain_until(lambda: warnings(caplog), "a complaint")
    (line,) = warnings(caplog)
    assert "homeassistant/device/t1/config is not published" in line
    assert "2000" in line
    broker.stop()


@pytest.mark.parametrize("maximum", [1, 2, 5])
def test_never_more_is_in_flight_than_the_broker_takes(devices: Callable[..., Device], maximum: int) -> None:
    with CountingBroker(receive_maximum=maximum) as broker:
        device = devices(broker.port)
        device.connect()
        device.walk(30)
        device.deliver()
        device.drain_until(device.idle, "all acknowledged")
        assert 1 <= broker.most_in_flight <= maximum
        assert broker.failure == ""


def test_packet_ids_go_round(broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]) -> None:
    """Message 65,536 of a connection has the id 1 again."""
    device = devices(broker.port)
    device.connect()
    session = device.publisher._link.session
    assert session is not None
    session._client._last_mid = 65_520
    device.walk(60)
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 60)
    assert subscriber.steps() == named(device.outbox.boot_id, 60)
    assert session._client._last_mid < 1000


def test_a_broker_that_acknowledges_nothing_is_left_after_a_minute(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    offset_s = [0.0]
    with CountingBroker(receive_maximum=65535, acknowledges=False) as broker:
        # A keepalive longer than the test: this broker answers no ping, and is not to be left for its silence.
        device = devices(broker.port, MQTT__KEEPALIVE_S="600", clock=lambda: time.monotonic() + offset_s[0])
        device.connect()
        device.walk(3)
        offset_s[0] = 20.0
        device.walk(1)
        assert device.publisher.connected
        offset_s[0] = 40.0
        device.walk(1)
        offset_s[0] = 61.0
        device.drain_until(lambda: warnings(caplog), "a complaint")
        assert device.outbox.depth == 5
    assert "acknowledges nothing" in warnings(caplog)[0]


def test_a_broker_without_qos_1_is_refused_with_a_line(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    with CountingBroker(receive_maximum=10, maximum_qos=0) as broker:
        device = devices(broker.port)
        device.walk(1)
        device.drain_until(lambda: warnings(caplog), "a complaint")
        assert "QoS 1" in warnings(caplog)[0]
        assert device.outbox.depth == 1


def test_nonsense_from_the_broker_ends_the_connection_and_not_the_pipeline(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with CountingBroker(
        receive_maximum=10, then=b"\x40\x80\x80\x80\x80\x80\x01\xff\x30\x05\x00\xff\xff\xff\xff"
    ) as broker:
        device = devices(broker.port)
        device.drain_until(lambda: [one for one in warnings(caplog) if "lost the MQTT broker" in one], "lost")
        device.walk(3)
        assert device.outbox.depth == 3


class CountingBroker(Peer):
    """Speaks just enough MQTT 5 to grant limits and to notice who breaks them; one connection at a time."""

    def __init__(
        self, *, receive_maximum: int, maximum_qos: int | None = None, acknowledges: bool = True, then: bytes = b""
    ) -> None:
        super().__init__()
        self.most_in_flight = 0
        self.failure = ""
        self._acknowledges = acknowledges
        self._then = then
        properties = b"\x21" + struct.pack(">H", receive_maximum)
        if maximum_qos is not None:
            properties += bytes([0x24, maximum_qos])
        body = bytes([0, 0, len(properties)]) + properties
        self._connack = bytes([0x20, len(body)]) + body

    def _serve(self, other: socket.socket) -> None:
        """Answer CONNECT, then collect what is in flight for a while before acknowledging all of it."""
        waiting: list[int] = []
        buffer = b""
        while not self._stopping.is_set():
            try:
                chunk = other.recv(65536)
            except TimeoutError:
                if waiting and self._acknowledges:
                    other.sendall(b"".join(b"\x40\x02" + struct.pack(">H", mid) for mid in waiting))
                    waiting.clear()
                continue
            except OSError:
                return
            if not chunk:
                return
            buffer += chunk
            while (packet := _packet(buffer)) is not None:
                kind, body, buffer = packet
                self._take(other, kind, body, waiting)

    def _take(self, peer: socket.socket, kind: int, body: bytes, waiting: list[int]) -> None:
        if kind == 0x10:
            peer.sendall(self._connack + self._then)
        elif kind == 0xC0:
            peer.sendall(b"\xd0\x00")
        elif kind == 0x30:
            topic_bytes = struct.unpack(">H", body[:2])[0]
            waiting.append(struct.unpack(">H", body[2 + topic_bytes : 4 + topic_bytes])[0])
            if len(set(waiting)) < len(waiting):
                self.failure = f"packet id {waiting[-1]} twice"
            self.most_in_flight = max(self.most_in_flight, len(waiting))


def _packet(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Split off the first packet: kind, body, rest."""
    length = shift = 0
    for at, byte in enumerate(buffer[1:5], start=1):
        length += (byte & 127) << shift
        shift += 7
        if byte < 128:
            end = at + 1 + length
            return None if len(buffer) < end else (buffer[0] & 0xF0, buffer[at + 1 : end], buffer[end:])
    return None
