"""The MQTT contract: steps from the outbox to the broker, what the device says about itself, and its commands.

Everything runs in the pipeline's thread, inside drain(), which costs microseconds when there is nothing to do; only
connecting has a thread of its own (edge.mqtt). Within one connection every row is offered once; after a reconnect all
that is still in the outbox is offered again.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from edge import payloads
from edge.complaints import Complaints
from edge.control import Control
from edge.home_assistant import SETTLE_S, Announcer
from edge.mqtt import Backoff, Link
from edge.mqtt_channel import Channel
from edge.mqtt_connect import Will
from edge.payloads import OFFLINE, ONLINE, DeviceInfo, Quality, State
from edge.snapshot import Recent
from edge.step_sender import StepSender
from edge.verbs import verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge.control import Verb
    from edge.health import Health
    from edge.outbox import Outbox
    from edge.settings import Config
    from edge.types import SampleBatch

_STATE_EVERY_S = 5.0
_CADENCE_HOLD_S = 5.0  # no step for so long: not walking any more
_REFUSALS_TOGETHER_S = 1.0
_CLOSE_POLL_S = 0.05
_NEVER = -float("inf")


class Publisher:
    """Call start() once, drain() once per turn of the pipeline, close() at the end; all from one thread.

    drain() also keeps the connection alive: it must be called every few seconds, whatever the sensor does. quality,
    hardware_total and unstored (steps that the disk does not take) may be set at any time. extra_verbs: further
    commands. No method raises because of the broker or the network; OutboxError passes through.
    """

    def __init__(
        self,
        config: Config,
        info: DeviceInfo,
        health: Health,
        *,
        extra_verbs: Mapping[str, Verb] | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        backoff: Backoff = Backoff(),  # noqa: B008  frozen
    ) -> None:
        self.quality: Quality = "ok"
        self.hardware_total: int | None = None
        self.unstored = 0
        self._base = config.mqtt.base_topic
        self._health_every_s = config.health.interval_s
        self._info, self._health = info, health
        self._clock, self._wall_clock = clock, wall_clock
        will = Will(self._topic("availability"), OFFLINE)
        self._link = Link(config.mqtt, f"footfall-{config.device.id}", will, environ, backoff=backoff, clock=clock)
        self._complaints = Complaints(clock)
        self._steps = StepSender(config.mqtt, self._complaints, clock=clock, wall_clock=wall_clock)
        self._home = Announcer(config, clock=clock)
        self._takes_commands = config.mqtt.commands
        self._control = Control(self._base, complaints=self._complaints, clock=clock)
        self._extra_verbs = extra_verbs or {}
        self._recent = Recent()
        self._channel: Channel | None = None
        self._next_state_s = self._next_health_s = self._status_from_s = self._health_sent_s = _NEVER
        self._hurried_s, self._hurry_pause_s, self._is_hurried = _NEVER, _STATE_EVERY_S, False
        self._sent: dict[str, object] = {}
        self._total_is_under_way = self._steps_refused = False
        self._sent_quality: Quality | None = None

    @property
    def connected(self) -> bool:
        """Whether a broker has accepted us and the connection is not known to be broken."""
        return self._link.session is not None

    def start(self) -> None:
        """Begin to connect; returns at once, with or without a broker."""
        self._link.start()

    def set_info(self, info: DeviceInfo) -> None:
        """Replace the birth message, e.g. when the sensor was found after the start."""
        if info != self._info:
            self._info = info
            self._sent.pop("info", None)
            self._home.renew()

    def observe(self, batch: SampleBatch | None) -> None:
        """Remember raw samples for the command `snapshot`."""
        if batch is not None and self._takes_commands:
            self._recent.keep(batch)

    def hurry_health(self) -> None:
        """Send the next health report soon, because something worth knowing has happened; still at most one per 5 s.

        What happens again and again is hurried less and less, down to the ordinary pace.
        """
        now_s = self._clock()
        if now_s - self._hurried_s > 2.0 * self._health_every_s:
            self._hurry_pause_s = _STATE_EVERY_S
        self._hurried_s, self._is_hurried = now_s, True
        self._next_health_s = min(self._next_health_s, self._health_sent_s + self._hurry_pause_s)

    def drain(self, outbox: Outbox, *, flush: bool = False) -> None:
        """Remove what was acknowledged, send what waits as far as the window allows, keep the status up to date.

        flush: send steps that wait for their batch at once.
        """
        self._link.turn()
        self._collect(outbox)
        if self._channel is None or self._channel.session is not self._link.session:
            self._begin()
        channel = self._channel
        if channel is None:
            return
        if channel.is_stuck():
            self._link.abandon("it acknowledges nothing any more")
            return
        self._listen(outbox, channel)
        self._send_birth(channel)
        self._steps.send(outbox, channel, flush=flush)  # before the total that counts them in
        self._send_replies(channel)
        if self._clock() >= self._status_from_s and channel.in_flight < channel.window:
            self._send_status(outbox)

    def close(self, outbox: Outbox, *, timeout_s: float = 3.0) -> None:
        """Send what is left, say offline, disconnect; takes timeout_s at most, broker or not."""
        deadline_s = time.monotonic() + timeout_s
        self.drain(outbox, flush=True)
        while self._channel is not None and self._steps.is_busy(outbox) and time.monotonic() < deadline_s:
            self._channel.session.wait(_CLOSE_POLL_S)
            self.drain(outbox, flush=True)
        self._next_state_s = _NEVER  # the last state is retained for as long as we are away
        channel, said = self._channel, False
        if channel is not None and channel.session is self._link.session:
            self._send_status(outbox)
        while channel is not None and channel.session is self._link.session:
            said = said or self._publish("availability", OFFLINE, retain=True)
            if (said and channel.in_flight == 0) or time.monotonic() >= deadline_s:
                break
            channel.session.wait(_CLOSE_POLL_S)
            self._link.turn()
            self._collect(outbox)
        self._link.stop()
        self._collect(outbox)

    def _begin(self) -> None:
        """Forget the old connection: nothing is in flight, nothing was offered, every retained topic is due."""
        self._sent = {}
        self._total_is_under_way, self._sent_quality = False, None
        session = self._link.session
        self._channel = None if session is None else Channel(session, self._clock)
        if self._channel is None:
            return
        self._hold()
        if self._takes_commands:
            self._channel.session.subscribe(self._control.subscription)
        self._home.begin(self._channel)

    def _hold(self) -> None:
        """Wait until Home Assistant, if it is told of us, has subscribed to what we are going to say."""
        settle_s = SETTLE_S if self._home.is_on else 0.0
        self._steps.begin(hold_s=settle_s)
        self._status_from_s = self._clock() + settle_s

    def _collect(self, outbox: Outbox) -> None:
        """Hear what the broker has acknowledged, also of a connection that has ended since."""
        if self._channel is not None:
            self._channel.collect()
            self._complain_of_refusals(self._channel)
        self._steps.remove(outbox)

    def _complain_of_refusals(self, channel: Channel) -> None:
        """Say in one line what the broker does not want, however many topics that are."""
        if not channel.refused or self._clock() - channel.refused_s < _REFUSALS_TOGETHER_S:
            return
        topics, codes = sorted(channel.refused), sorted(set(channel.refused.values()))
        channel.refused = {}
        waits = bool({self._topic("step"), self._topic("batch")} & set(topics))
        self._steps_refused = waits or self._steps_refused
        self._complaints.log(
            f"the MQTT broker refuses messages on {', '.join(topics)} (reason code {', '.join(map(str, codes))}): "
            f"check its ACL{'; steps wait in the outbox' if waits else ''}",
            key=f"refused {self._steps_refused}",
        )

    def _listen(self, outbox: Outbox, channel: Channel) -> None:
        session = channel.session
        while session.denied:
            topic = session.denied.popleft()
            self._complaints.log(f"the MQTT broker does not let us hear {topic}: check its ACL")
        served = verbs(outbox, self._info, self._recent, wall_clock=self._wall_clock)
        while session.messages:
            message = session.messages.popleft()
            if not self._home.hear(message, channel) and self._takes_commands:
                self._control.hear(message, {**served, **self._extra_verbs})

    def _send_birth(self, channel: Channel) -> None:
        if "availability" not in self._sent:
            self._retain("availability", ONLINE, ONLINE)
        if "info" not in self._sent:
            self._retain("info", self._info, payloads.info(self._info))
        if self._home.is_due():
            topic, payload = self._home.message(self._info)
            if self._publish_on(topic, payload, retain=True):
                self._home.announced()
                if channel.session is self._link.session:
                    self._again()

    def _again(self) -> None:
        """After a discovery message: the states once more, when Home Assistant has had time to subscribe."""
        self._steps.hold(SETTLE_S)
        self._status_from_s = self._clock() + SETTLE_S
        for name in ("availability", "steps", "state"):
            self._sent.pop(name, None)
        self._next_health_s = _NEVER

    def _send_status(self, outbox: Outbox) -> None:
        # A total goes out with the batch that it counts in, not with each of the batch's steps.
        counts = not self._steps.waits_for_batch(outbox)
        if counts and not self._total_is_under_way:
            self._retain("steps", outbox.total, payloads.steps(outbox.total))
        now_s = self._clock()
        if now_s >= self._next_state_s and (counts or self.quality != self._sent_quality):
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
            hardware_total=self.hardware_total,
        )
        if state == self._sent.get("state"):
            return
        if self._retain("state", state, payloads.state(state, round(wall_s * 1000.0))):
            self._sent_quality = state.quality
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
            "outbox_unstored": self.unstored,
            "hardware_total": self.hardware_total,
            "reconnects": self._link.connections - 1,
            "ts": payloads.rfc3339(round(wall_s * 1000.0)),
        }
        if self._publish("health", payloads.health(report), retain=True):
            self._health_sent_s, self._next_health_s = now_s, now_s + self._health_every_s
            if self._is_hurried:
                self._is_hurried = False
                self._hurry_pause_s = min(2.0 * self._hurry_pause_s, max(_STATE_EVERY_S, self._health_every_s))
            # Once more: where brokers share their state, an old connection's will may come after our `online`.
            self._publish("availability", ONLINE, retain=True)

    def _send_replies(self, channel: Channel) -> None:
        replies = self._control.replies
        while replies and channel.in_flight < channel.window:
            reply = replies[0]
            payload = reply.next_payload()
            if payload is None:
                replies.popleft()
            elif self._publish_on(reply.topic, payload, retain=False, correlation=reply.correlation):
                reply.sent()
            else:
                return

    def _retain(self, name: str, value: object, payload: bytes) -> bool:
        """Publish a retained topic unless this connection has had that value already."""
        if self._sent.get(name) == value or not self._publish(name, payload, retain=True):
            return False
        self._sent[name] = value
        return True

    def _publish(self, name: str, payload: bytes, *, retain: bool) -> bool:
        return self._publish_on(self._topic(name), payload, retain=retain)

    def _publish_on(self, topic: str, payload: bytes, *, retain: bool, correlation: bytes | None = None) -> bool:
        """Return whether that is done with: sent, or larger than this broker takes, which no waiting will change."""
        channel = self._channel
        if channel is None:
            return False
        if len(payload) + len(correlation or b"") > channel.room(topic):
            self._complaints.log(
                f"{topic} is not published: its {len(payload)} bytes do not fit into the "
                f"{channel.session.limits.packet_bytes} that the MQTT broker takes; raise its limit",
                key=f"too large {topic}",
            )
            return True
        done = self._total_arrived if topic == self._topic("steps") else None
        if not channel.publish(topic, payload, retain=retain, correlation=correlation, done=done):
            return False
        self._total_is_under_way = self._total_is_under_way or done is not None
        return True

    def _total_arrived(self, _accepted: bool) -> None:
        self._total_is_under_way = False

    def _topic(self, name: str) -> str:
        return f"{self._base}/{name}"
