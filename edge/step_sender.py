"""Steps from the outbox to the broker, each offered once per connection, removed on acknowledgement only.

Live steps go one by one to .../step; those that waited too long, and all of them in fleet mode, to .../batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge import payloads
from edge.errors import OutboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.complaints import Complaints
    from edge.mqtt_channel import Channel
    from edge.outbox import Outbox, OutboxRow
    from edge.settings import Mqtt

BATCH_ROWS = 500
_WINDOW_MESSAGES = 8  # of the channel's, so that the status topics find room
_BATCHES_PER_TURN = 4  # 2000 rows: a day of steady walking is through in 90 turns, and none takes long
_REFUSED_PAUSE_S = 60.0
_REMOVE_AGAIN_S = 1.0


class StepSender:
    """Moves rows; its methods are for the pipeline's thread. OutboxError passes through unless it is transient."""

    def __init__(
        self,
        settings: Mqtt,
        complaints: Complaints,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._step_topic, self._batch_topic = f"{settings.base_topic}/step", f"{settings.base_topic}/batch"
        self._batch_s = settings.batch_s
        # In fleet mode a step is late only if it waited longer than its batch made it.
        self._late_s = settings.live_age_s + settings.batch_s
        self._complaints, self._clock, self._wall_clock = complaints, clock, wall_clock
        self._taken: list[OutboxRow] = []
        self._remove_from_s = self._send_from_s = -float("inf")
        self._in_flight = 0
        self._offered = 0
        self._batch_due_s: float | None = None
        self._connection = 0

    def begin(self, *, hold_s: float) -> None:
        """Start over on a new connection: nothing was offered yet; nothing is for hold_s."""
        self._connection += 1
        self._in_flight = self._offered = 0
        self._batch_due_s = self._clock()
        self.hold(hold_s)

    def hold(self, hold_s: float) -> None:
        """Offer nothing for so long; whatever waits goes on waiting in the outbox."""
        self._send_from_s = self._clock() + hold_s

    def is_busy(self, outbox: Outbox) -> bool:
        """Whether something is on its way, or could be sent right now."""
        waits = outbox.total > self._offered and self._clock() >= self._send_from_s
        return self._in_flight > 0 or waits

    def waits_for_batch(self, outbox: Outbox) -> bool:
        """Whether steps wait for the batch that they will be sent in."""
        return self._batch_s > 0 and outbox.total > self._offered

    def remove(self, outbox: Outbox) -> None:
        """Remove what the broker has taken; a disk that is full for now must not stop the pipeline."""
        if not self._taken or self._clock() < self._remove_from_s:
            return
        try:
            outbox.acknowledge(self._taken)
        except OutboxError as error:
            if not error.transient:
                raise
            self._complaints.log(f"{error}; steps that were delivered cannot be removed yet")
            self._remove_from_s = self._clock() + _REMOVE_AGAIN_S
        else:
            self._taken = []

    def send(self, outbox: Outbox, channel: Channel, *, flush: bool = False) -> None:
        """Offer what the window has room for; flush: do not wait for a batch to be due."""
        if self._clock() < self._send_from_s:
            return
        if outbox.total <= self._offered:
            self._batch_due_s = None
            return
        if (self._batch_s and not flush and not self._is_due()) or not self._has_room(channel):
            return
        batches = 0
        while batches < _BATCHES_PER_TURN and (rows := outbox.pending(BATCH_ROWS, after=self._offered)):
            wall_s = self._wall_clock()
            while rows:
                count, late = self._group(rows, outbox, wall_s)
                sent = self._offer(rows[:count], channel, late=late)
                if sent == 0:
                    return
                batches += sent > 1
                rows = rows[sent:]
        if batches < _BATCHES_PER_TURN:
            self._offered = max(self._offered, outbox.total)
            self._batch_due_s = None

    def _is_due(self) -> bool:
        """Whether the time of the batch has come; it runs from the first step that nobody has offered yet."""
        if self._batch_due_s is None:
            self._batch_due_s = self._clock() + self._batch_s
        return self._clock() >= self._batch_due_s

    def _group(self, rows: Sequence[OutboxRow], outbox: Outbox, wall_s: float) -> tuple[int, bool]:
        """Count the rows in front that fit into one message: one boot_id, no gap in seq, all late or none."""
        first, late = rows[0], self._is_late(rows[0], outbox, wall_s)
        if not late and not self._batch_s:
            return 1, False
        for count, row in enumerate(rows):
            if row.boot_id != first.boot_id or row.seq != first.seq + count:
                return count, late
            if self._is_late(row, outbox, wall_s) != late:
                return count, late
        return len(rows), late

    def _is_late(self, row: OutboxRow, outbox: Outbox, wall_s: float) -> bool:
        return not 0.0 <= outbox.age_s(row, wall_s) <= self._late_s

    def _offer(self, rows: Sequence[OutboxRow], channel: Channel, *, late: bool) -> int:
        """Send as many of the rows as one message holds; return how many, 0 where none can go now."""
        if not self._has_room(channel):
            return 0
        is_batch = late or self._batch_s > 0
        topic = self._batch_topic if is_batch else self._step_topic
        payload = payloads.batch(rows, late=late) if is_batch else payloads.step(rows[0])
        while len(payload) > channel.room(topic) and len(rows) > 1:
            rows = rows[: len(rows) // 2]
            payload = payloads.batch(rows, late=late)
        if len(payload) > channel.room(topic):
            self._too_small(len(payload) - channel.room(topic), channel)
            return 0
        connection, sent = self._connection, list(rows)
        if not channel.publish(topic, payload, done=lambda accepted: self._done(sent, connection, accepted=accepted)):
            return 0
        self._in_flight += 1
        self._offered = rows[-1].total
        return len(rows)

    def _has_room(self, channel: Channel) -> bool:
        """Whether one more message may be under way; looked at first, because a hung broker must cost nothing."""
        ours = max(1, min(_WINDOW_MESSAGES, channel.window - 2))
        return self._in_flight < ours and channel.in_flight < channel.window

    def _done(self, rows: Sequence[OutboxRow], connection: int, *, accepted: bool) -> None:
        """Keep what the broker does not want, and offer it again later: somebody may mend its ACL."""
        if connection == self._connection:
            self._in_flight -= 1
        if accepted:
            self._taken += rows
        else:
            self._offered = 0
            self.hold(_REFUSED_PAUSE_S)

    def _too_small(self, missing: int, channel: Channel) -> None:
        limit = channel.session.limits.packet_bytes
        self._complaints.log(
            f"the MQTT broker takes packets of {limit} bytes at most, {missing} less than a single step needs: "
            "raise its limit (max_packet_size in Mosquitto); steps wait in the outbox",
            key="packet size",
        )
        self.hold(_REFUSED_PAUSE_S)
