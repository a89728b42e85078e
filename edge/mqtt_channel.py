"""What is under way on one MQTT connection: how much may be, how large it may be, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.mqtt_session import Session

WINDOW = 16
"""Most messages without an acknowledgement; brokers allow 20 unless they say otherwise, and so does paho."""
_STUCK_S = 60.0
_OVERHEAD_BYTES = 12  # PUBLISH: fixed header 5, topic length 2, packet id 2, properties' length 1, correlation's 3


@dataclass(slots=True)
class _Sent:
    topic: str
    since_s: float
    done: Callable[[bool], None] | None


class Channel:
    """One connection, as those who publish see it.

    refused: topics on which the broker has refused something since they were last taken, with its reason codes.
    """

    def __init__(self, session: Session, clock: Callable[[], float]) -> None:
        self.session = session
        self.window = min(WINDOW, session.limits.receive_maximum)
        self.refused: dict[str, int] = {}
        self.refused_s = 0.0
        self._clock = clock
        self._sent: dict[int, _Sent] = {}

    @property
    def in_flight(self) -> int:
        """Messages that wait for their acknowledgement."""
        return len(self._sent)

    def room(self, topic: str) -> int:
        """Return the largest payload, in bytes, that the broker takes on the topic; may be negative."""
        return self.session.limits.packet_bytes - len(topic.encode()) - _OVERHEAD_BYTES

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation: bytes | None = None,
        done: Callable[[bool], None] | None = None,
    ) -> bool:
        """Send with QoS 1; False where the window is full or the connection gone.

        done: called from collect() with whether the broker has taken the message; never if the connection ends first.
        """
        if len(self._sent) >= self.window:
            return False
        mid = self.session.publish(topic, payload, retain=retain, correlation=correlation)
        if mid is None:
            return False
        self._sent[mid] = _Sent(topic, self._clock(), done)
        return True

    def collect(self) -> None:
        """Tell everybody what the broker has acknowledged."""
        while self.session.acks:
            ack = self.session.acks.popleft()
            sent = self._sent.pop(ack.mid, None)
            if sent is None:
                continue
            if not ack.accepted:
                self.refused_s = self.refused_s if self.refused else self._clock()
                self.refused[sent.topic] = ack.reason
            if sent.done is not None:
                sent.done(ack.accepted)

    def is_stuck(self) -> bool:
        """Whether the oldest message has waited so long that this connection will hardly acknowledge it."""
        oldest = next(iter(self._sent.values()), None)
        return oldest is not None and self._clock() - oldest.since_s > _STUCK_S
