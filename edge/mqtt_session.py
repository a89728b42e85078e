"""One accepted MQTT connection over paho 1.6 or 2, driven by the thread that publishes.

The rules of this module:
- No thread of paho's: what is published is on the socket when publish() returns, and what has come is read in turn(),
  once per turn of the pipeline. A thread would cost two wake-ups a message and a hand-over of Python's lock.
- The socket never blocks. turn() reads a bounded number of bytes, so that nobody can keep the pipeline busy, and no
  packet that announces more than we take: paho would hold all of it in memory.
- paho never reconnects: a session that has ended is thrown away with everything it had queued, so that a message is
  sent again by the outbox or by nobody, never by both.
- Only the PUBACK of QoS 1 counts as delivered.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.paho_client import PacketTypes, Properties, paho

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURE = 128  # MQTT 5 reason codes from here on are errors
MQTT3_CONNACK = {1: 132, 2: 133, 3: 136, 4: 134, 5: 135}  # paho 1.6 hands these over as they are on the wire
PACKET_BYTES = 16384
"""The largest packet that we accept, as an MQTT 5 broker is told; commands are 4 KiB at most."""
PACKET_BYTES_MQTT3 = 2**20
"""The same where a broker cannot be told, and so passes on whatever somebody publishes on a command's topic."""
_BYTES_PER_TURN = 65536
RECEIVE_MAXIMUM = 16
_MOST_MESSAGES = 32  # waiting to be looked at; who sends more than that between two turns is not heard
_READS_PER_TURN = 32
_SILENCE = 1.5  # keepalives
_BROKEN = (paho.MQTT_ERR_CONN_LOST, paho.MQTT_ERR_UNKNOWN, FAILURE)  # what paho says when it knows no reason


@dataclass(frozen=True, slots=True)
class Ack:
    """A PUBACK; reason: the MQTT 5 reason code, 128 and more where the broker refused the message."""

    mid: int
    reason: int = 0

    @property
    def accepted(self) -> bool:
        """Whether the broker has taken the message."""
        return self.reason < FAILURE


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message for us. response_topic and correlation: MQTT 5 properties, None where there are none."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker allows, by its MQTT 5 CONNACK; MQTT 3.1.1 has no words for it."""

    receive_maximum: int = 65535
    packet_bytes: int = 268_435_455
    maximum_qos: int = 2
    retain: bool = True


class Session:
    """One connection from CONNECT to its end; used by one thread at a time."""

    def __init__(self, client: Any, *, is_mqtt5: bool, keepalive_s: int, clock: Callable[[], float]) -> None:
        self.acks: deque[Ack] = deque()
        self.messages: deque[Incoming] = deque()
        self.overheard = 0  # messages dropped because too many waited
        self.denied: deque[str] = deque()  # topics that the broker does not let us subscribe to
        self.limits = Limits()
        self.accepted = self.ended = False
        self.refusal: int | None = None
        self.reason = ""
        self.paho_said = ""  # its last error while it connected: paho logs what the socket and TLS say, and drops it
        self.is_mqtt5 = is_mqtt5
        self._client, self._keepalive_s, self._clock = client, keepalive_s, clock
        self._turned_s, self._silent_s = clock(), 0.0
        self._subscriptions: dict[int, str] = {}
        self._poll = select.poll()
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        client.on_subscribe = self._on_subscribe
        self._most_bytes, self._room_bytes = PACKET_BYTES if is_mqtt5 else PACKET_BYTES_MQTT3, _BYTES_PER_TURN
        self._read, client._sock_recv = client._sock_recv, self._receive  # noqa: SLF001  paho 1.6 and 2.x alike

    def connect(self, host: str, port: int) -> None:
        """Open the socket, with TLS where it was set up, and send CONNECT; blocks; raises OSError, ValueError."""
        properties = None
        if self.is_mqtt5:
            properties = Properties(PacketTypes.CONNECT)
            properties.ReceiveMaximum, properties.MaximumPacketSize = RECEIVE_MAXIMUM, PACKET_BYTES
        self._client.on_log = self._on_log
        self._client.connect(host, port, keepalive=int(self._keepalive_s), properties=properties)
        sock = self._client.socket()
        if sock is None:
            self._end("the connection broke")
            return
        # Several small packets in one turn: Nagle would hold the second back until the first is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(sock.fileno(), select.POLLIN)
        self._turned_s = self._clock()

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, qos: int = 1, correlation: bytes | None = None
    ) -> int | None:
        """Send; return the message id whose Ack will follow (QoS 1), or None when the connection is gone."""
        if self.ended:
            return None
        properties = None
        if correlation is not None and self.is_mqtt5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation
        retain = retain and self.limits.retain
        sent = self._guarded(
            lambda: self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        )
        return int(sent.mid) if sent is not None and sent.rc == paho.MQTT_ERR_SUCCESS else None

    def subscribe(self, topic: str) -> None:
        """Ask for a topic; a refusal will be in `denied`.

        QoS 0 on the way from the broker to us: Mosquitto 2.0.11 never frees the place in the Receive Maximum of a QoS 1
        message that it drops for our Maximum Packet Size, and after 16 of them sends nothing any more. Nothing is lost
        by it: sessions are clean, so what is under way when a connection breaks would not be sent again with QoS 1
        either. Without a Maximum Packet Size we would have to read whatever somebody publishes.
        """
        if not self.ended and (asked := self._guarded(lambda: self._client.subscribe(topic, qos=0))) and asked[1]:
            self._subscriptions[asked[1]] = topic

    def unsubscribe(self, topic: str) -> None:
        """Stop hearing a topic."""
        if not self.ended:
            self._guarded(lambda: self._client.unsubscribe(topic))

    def turn(self) -> None:
        """Read what has come, write what did not fit into the socket, keep the connection alive; never blocks."""
        self._room_bytes = _BYTES_PER_TURN
        for _ in range(_READS_PER_TURN):
            if self.ended or self._room_bytes <= 0 or not self._is_readable():
                break
            self._silent_s = 0.0
            self._guarded(self._client.loop_read)
        if self.ended:
            return
        if self._client.want_write():
            self._guarded(self._client.loop_write)
        self._guarded(self._client.loop_misc)
        if not self.ended and self._silence_s() > _SILENCE * self._keepalive_s:
            self.abort(f"it has been silent for {_SILENCE * self._keepalive_s:.0f} s")

    def _silence_s(self) -> float:
        """Count how long nothing has come; time in which we did not listen is not the broker's silence."""
        now_s = self._clock()
        self._silent_s += min(now_s - self._turned_s, self._keepalive_s / 4.0)
        self._turned_s = now_s
        return self._silent_s

    def wait(self, timeout_s: float) -> None:
        """Sleep until something has come, at most timeout_s."""
        if not self.ended and not self._pending():
            self._poll.poll(max(0.0, timeout_s) * 1000.0)

    def abort(self, reason: str) -> None:
        """End it without a DISCONNECT, which would keep the last will from being published."""
        if self.ended:
            return
        self._end(reason)
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):  # it may have gone already
                sock.shutdown(socket.SHUT_RDWR)
            self._guarded(self._client.loop_read)  # lets paho notice, and close the socket

    def close(self) -> None:
        """End it with a DISCONNECT, if it has not ended yet, and let go of paho's client.

        paho closes its wake-up sockets when the last reference to a client goes, so the circles are cut here.
        """
        self.ended = True
        self._guarded(self._client.disconnect)
        client = self._client
        client.on_connect = client.on_disconnect = client.on_publish = client.on_message = client.on_subscribe = None
        client.on_log = None
        client._sock_recv = None  # noqa: SLF001

    def _receive(self, wanted: int) -> bytes:
        """Read for paho, which asks for all the rest of a packet at once, as many bytes as its sender claims."""
        if wanted > self._most_bytes:
            hint = "" if self.is_mqtt5 else "; set the broker's limit, message_size_limit in Mosquitto"
            self._end(f"it sends a packet of {wanted} bytes, where {self._most_bytes} are allowed{hint}")
        if self.ended:
            raise ConnectionAbortedError
        if self._room_bytes <= 0:
            raise BlockingIOError  # to paho: nothing more has come
        content: bytes = self._read(min(wanted, self._room_bytes))
        self._room_bytes -= len(content)
        return content

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Call paho; what it makes of nonsense on the wire must not stop the pipeline."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001  struct.error, UnicodeError, ValueError, MalformedPacket, ssl's …
            self._end(f"it sends what cannot be understood ({error!r})")
            return None

    def _is_readable(self) -> bool:
        return self._pending() or bool(self._poll.poll(0))

    def _pending(self) -> bool:
        """Whether TLS has already taken bytes from the socket that we have not seen."""
        pending = getattr(self._client.socket(), "pending", None)
        return pending is not None and pending() > 0

    def _end(self, reason: str) -> None:
        if not self.ended:
            self.ended, self.reason = True, reason

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, properties: Any = None) -> None:
        code = _code(reason)
        if code >= FAILURE or code in MQTT3_CONNACK:
            self.refusal = MQTT3_CONNACK.get(code, code)
        else:
            self.accepted = True
            self._client.on_log = None
            self.limits = _limits(properties)
            self._keepalive_s = min(self._keepalive_s, getattr(properties, "ServerKeepAlive", 0) or self._keepalive_s)

    def _on_log(self, _client: Any, _userdata: Any, level: int, text: str) -> None:
        if level in (paho.MQTT_LOG_ERR, paho.MQTT_LOG_WARNING):
            self.paho_said = text

    def _on_publish(self, client: Any, _userdata: Any, mid: int, reason: Any = None, *_: Any) -> None:
        if reason is not None:
            self.acks.append(Ack(mid, _code(reason)))
            return
        # paho 1.6 hands over no reason, though it stands in the packet that it has just read (1.6.1 is its last).
        packet = client._in_packet["packet"] if self.is_mqtt5 else b""  # noqa: SLF001
        self.acks.append(Ack(mid, packet[2] if len(packet) > 2 else 0))

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        if len(self.messages) >= _MOST_MESSAGES:
            self.overheard += 1
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        properties = getattr(message, "properties", None)
        self.messages.append(
            Incoming(
                topic=topic,
                payload=bytes(message.payload),
                retained=bool(message.retain),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(self, _client: Any, _userdata: Any, mid: int, codes: Any, *_: Any) -> None:
        topic = self._subscriptions.pop(mid, None)
        if topic is not None and any(_code(code) >= FAILURE for code in codes):
            self.denied.append(topic)

    def _on_disconnect(self, _client: Any, _userdata: Any, *details: Any) -> None:
        # (flags, reason, properties) from paho 2, (reason[, properties]) from 1.6; twice after a keepalive timeout.
        reason = details[1] if len(details) == 3 else details[0]
        self._end("the connection broke" if _code(reason) in _BROKEN else _words(reason))


def _limits(properties: Any) -> Limits:
    """Read CONNACK's properties; source: MQTT 5.0, 3.2.2.3."""
    default = Limits()
    return Limits(
        receive_maximum=getattr(properties, "ReceiveMaximum", default.receive_maximum),
        packet_bytes=getattr(properties, "MaximumPacketSize", default.packet_bytes),
        maximum_qos=getattr(properties, "MaximumQoS", default.maximum_qos),
        retain=bool(getattr(properties, "RetainAvailable", 1)),
    )


def _code(reason: Any) -> int:
    """Return a reason code as a number: paho hands over an int or an object, depending on its version."""
    return int(getattr(reason, "value", reason))


def _words(reason: Any) -> str:
    """Say what paho or the broker gives as the reason; paho 1.6 has but a number for its own."""
    return paho.error_string(reason).rstrip(".") if isinstance(reason, int) else str(reason)
