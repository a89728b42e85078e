"""The MQTT contract: steps from the outbox to the broker, and what the device says about itself.

Everything but `Link` runs in the pipeline's thread, inside drain(), which costs microseconds when there is nothing to
do. Rows leave the outbox only when the broker has acknowledged them. Within one connection every row is offered once;
after a reconnect all that is still in the outbox is offered again.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from edge import payloads
from edge.errors import OutboxError
from edge.mqtt import Backoff, Complaints, Link, Will
from edge.payloads import OFFLINE, ONLINE, DeviceInfo, Quality, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.config import Config
    from edge.health import Health
    from edge.mqtt import Session
    from edge.outbox import Outbox, OutboxRow

_WINDOW_MESSAGES = 8  # brokers allow 20 unacknowledged by default, and the status topics need a few
_BATCH_ROWS = 200
_STATE_EVERY_S = 5.0
_CADENCE_HOLD_S = 5.0  # no step for so long: not walking any more
_REFUSED_PAUSE_S = 60.0
_REMOVE_AGAIN_S = 1.0
_CLOSE_POLL_S = 0.01


class Publisher:
    """Call start() once, drain() once per turn of the pipeline, close() at the end; all from one thread.

    quality may be set at any time. No method raises because of the broker or the network; OutboxError passes through.
    """

    def __init__(
        self,
        config: Config,
        info: DeviceInfo,
        health: Health,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        backoff: Backoff = Backoff(),  # noqa: B008  frozen
    ) -> None:
        self.quality: Quality = "ok"
        self._base = config.mqtt.base_topic
        self._live_age_s = config.mqtt.live_age_s
        self._health_every_s = config.health.interval_s
        self._info, self._health = info, health
        self._clock, self._wall_clock = clock, wall_clock
        will = Will(self._topic("availability"), OFFLINE)
        client_id = f"footfall-{config.device.id}"
        self._link = Link(config.mqtt, client_id, will, environ, backoff=backoff, clock=clock)
        self._complaints = Complaints(clock)
        self._next_state_s = self._next_health_s = self._health_sent_s = -float("inf")
        self._rows_from_s = self._remove_from_s = -float("inf")
        self._taken: list[OutboxRow] = []
        self._begin(None)

    @property
    def connected(self) -> bool:
        """Whether a broker has accepted us and the connection is not known to be broken."""
        return self._link.session is not None

    def start(self) -> None:
        """Begin to connect; returns at once, with or without a broker."""
        self._link.start()

    def set_info(self, info: DeviceInfo) -> None:
        """Replace the birth message, e.g. when the sensor was found after the start."""
        self._info = info
        self._sent.pop("info", None)

    def hurry_health(self) -> None:
        """Send the next health report soon, because something worth knowing has happened; still at most one per 5 s."""
        self._next_health_s = min(self._next_health_s, self._health_sent_s + _STATE_EVERY_S)

    def drain(self, outbox: Outbox) -> None:
        """Remove what was acknowledged, send what waits as far as the window allows, keep the status up to date."""
        self._collect(outbox)
        session = self._link.session
        if session is not self._session:
            self._collect(outbox)  # what the old connection still delivered before it went
            self._begin(session)
        if session is None:
            return
        self._send_birth()
        self._send_rows(outbox)  # before the total that counts them in
        self._send_status(outbox)

    def close(self, outbox: Outbox, *, timeout_s: float = 3.0) -> None:
        """Send what is left, say offline, disconnect; takes timeout_s at most, broker or not."""
        deadline_s = time.monotonic() + timeout_s
        self.drain(outbox)
        while self.connected and self._is_busy(outbox) and time.monotonic() < deadline_s:
            time.sleep(_CLOSE_POLL_S)
            self.drain(outbox)
        self._publish("availability", OFFLINE, retain=True)
        while self.connected and self._in_flight and time.monotonic() < deadline_s:
            time.sleep(_CLOSE_POLL_S)
            self._collect(outbox)
        self._link.stop(max(0.2, deadline_s - time.monotonic()))
        self._collect(outbox)

    def _is_busy(self, outbox: Outbox) -> bool:
        waits = self._offered < outbox.total and self._clock() >= self._rows_from_s
        return bool(self._in_flight) or waits

    def _begin(self, session: Session | None) -> None:
        """Forget the old connection: nothing is in flight, nothing was offered, every retained topic is due."""
        self._session = session
        self._in_flight: dict[int, tuple[str, Sequence[OutboxRow]]] = {}
        self._sent: dict[str, object] = {}
        self._offered = 0

    def _collect(self, outbox: Outbox) -> None:
        """Take the rows that the broker has acknowledged out of the outbox."""
        if self._session is None:
            return
        self._session.pump()
        while self._session.acks:
            ack = self._session.acks.popleft()
            name, rows = self._in_flight.pop(ack.mid, ("", ()))
            if ack.accepted:
                self._taken += rows
            elif rows:
                self._refused(name)
        if self._taken and self._clock() >= self._remove_from_s:
            self._remove(outbox)

    def _remove(self, outbox: Outbox) -> None:
        """Remove what was taken; a disk that is full for now must not stop the pipeline."""
        try:
            outbox.acknowledge(self._taken)
        except OutboxError as error:
            if not error.transient:
                raise
            self._complaints.log(f"{error}; steps that were delivered cannot be removed yet")
            self._remove_from_s = self._clock() + _REMOVE_AGAIN_S
        else:
            self._taken = []

    def _refused(self, name: str) -> None:
        """Keep what the broker does not want, and offer it again later: somebody may mend its ACL."""
        self._complaints.log(f"the MQTT broker refuses messages on {self._topic(name)}: check its ACL; steps wait")
        self._offered = 0
        self._rows_from_s = self._clock() + _REFUSED_PAUSE_S

    def _send_rows(self, outbox: Outbox) -> None:
        if outbox.total <= self._offered or self._clock() < self._rows_from_s:
            return
        free = _WINDOW_MESSAGES - len(self._in_flight)
        if free <= 0:
            return
        rows = outbox.pending(_BATCH_ROWS, after=self._offered)
        if not rows:
            self._offered = outbox.total
        wall_s = self._wall_clock()
        while rows and free > 0:
            count = self._late_count(rows, outbox, wall_s)
            group, rows = rows[: max(count, 1)], rows[max(count, 1) :]
            if not self._send_group(group, late=count > 0):
                return
            free -= 1

    def _send_group(self, rows: list[OutboxRow], *, late: bool) -> bool:
        name, payload = ("batch", payloads.batch(rows, late=True)) if late else ("step", payloads.step(rows[0]))
        if not self._publish(name, payload, retain=False, rows=rows):
            return False
        self._offered = rows[-1].total
        return True

    def _late_count(self, rows: list[OutboxRow], outbox: Outbox, wall_s: float) -> int:
        """Count the rows in front that are late and fit into one batch: one boot_id, no gap in seq."""
        count = 0
        for count, row in enumerate(rows):
            live = 0.0 <= outbox.age_s(row, wall_s) <= self._live_age_s
            if live or row.boot_id != rows[0].boot_id or row.seq != rows[0].seq + count:
                return count
        return count + 1

    def _send_birth(self) -> None:
        if "info" not in self._sent:
            self._publish("availability", ONLINE, retain=True)
            self._retain("info", self._info, payloads.info(self._info))

    def _send_status(self, outbox: Outbox) -> None:
        if not any(name == "steps" for name, _ in self._in_flight.values()):
            self._retain("steps", outbox.total, payloads.steps(outbox.total))
        now_s = self._clock()
        if now_s >= self._next_state_s:
            self._send_state(outbox, now_s)
        if now_s >= self._next_health_s:
            self._send_health(outbox, now_s)

    def _send_state(self, outbox: Outbox, now_s: float) -> None:
        """Send the state if it has changed; after that no other for 5 s."""
        wall_s = self._wall_clock()
        state = State(
            total=outbox.total,
            today=outbox.today(wall_s),
            cadence_spm=self._cadence_spm(outbox, wall_s),
            last_step_ms=outbox.last_ts_ms,
            seq=outbox.seq,
            boot_id=outbox.boot_id,
            quality=self.quality,
        )
        if state == self._sent.get("state"):
            return
        if self._retain("state", state, payloads.state(state, round(wall_s * 1000.0))):
            self._next_state_s = now_s + _STATE_EVERY_S

    def _cadence_spm(self, outbox: Outbox, wall_s: float) -> float | None:
        """Return the cadence of the last step while the walk may still be going on."""
        last = outbox.last
        walking = last is not None and outbox.age_s(last, wall_s) <= _CADENCE_HOLD_S
        return last.cadence_spm if last is not None and walking else None

    def _send_health(self, outbox: Outbox, now_s: float) -> None:
        wall_s = self._wall_clock()
        oldest = outbox.pending(1)
        report = {
            **self._health.report(),
            "outbox_depth": outbox.depth,
            "outbox_oldest_age_s": round(outbox.age_s(oldest[0], wall_s), 1) if oldest else 0.0,
            "outbox_dropped": outbox.dropped,
            "reconnects": self._link.connections - 1,
            "ts": payloads.rfc3339(round(wall_s * 1000.0)),
        }
        if self._publish("health", payloads.health(report), retain=True):
            self._health_sent_s, self._next_health_s = now_s, now_s + self._health_every_s

    def _retain(self, name: str, value: object, payload: bytes) -> bool:
        """Publish a retained topic unless this connection has had that value already."""
        if self._sent.get(name) == value or not self._publish(name, payload, retain=True):
            return False
        self._sent[name] = value
        return True

    def _publish(self, name: str, payload: bytes, *, retain: bool, rows: Sequence[OutboxRow] = ()) -> bool:
        mid = self._session.publish(self._topic(name), payload, retain=retain) if self._session else None
        if mid is None:
            return False
        self._in_flight[mid] = (name, rows)
        return True

    def _topic(self, name: str) -> str:
        return f"{self._base}/{name}"
