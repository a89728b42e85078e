"""Keeps one MQTT session open: which broker, when, and what the log says about it.

The rules of this module:
- Connecting blocks (names, TCP, TLS, CONNACK), so each attempt has a thread of its own, which ends with it. A session
  that was accepted belongs to the thread that calls turn(), and no other thread of ours exists then.
- Nothing here blocks or raises into the thread that publishes.
- Brokers are tried in order of preference. On another than the first, the better ones are tried again from time to
  time, and the session moves when one answers.
- A broker that comes and goes fills no log: what is lost and found again is said ever more rarely.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.complaints import Complaints
from edge.mqtt_connect import Address, RefusedError, Will, addresses, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.mqtt_session import Session
    from edge.settings import Mqtt

log = logging.getLogger(__name__)

STABLE_S = 30.0
"""A connection that ends sooner does not reset the back-off: two devices with one id would storm."""
CALM_S = 600.0
"""A connection that has held for so long is news when it ends, and the log starts over."""
RETURN_AFTER_S = 300.0
"""How long to stay with a broker that is not the first choice before the better ones are asked again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: uniform between 0 and the smaller of cap_s and base_s * 2^failures."""

    base_s: float = 1.0
    cap_s: float = 60.0

    def delay_s(self, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Return how long to wait after so many failures in a row."""
        return uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(failures, 32)))


@dataclass(slots=True)
class _Attempt:
    """One round through some brokers in a thread; `done` is set last."""

    brokers: Sequence[Address]
    done: threading.Event = field(default_factory=threading.Event)
    abandoned: bool = False
    session: Session | None = None
    index: int = 0
    refusals: list[tuple[Address, RefusedError]] = field(default_factory=list)

    def run(self, connect: Callable[[Address], Session]) -> None:
        """Take the first broker that accepts us."""
        try:
            for index, address in enumerate(self.brokers):
                if self.abandoned:
                    break
                self.index = index
                try:
                    self.session = connect(address)
                except RefusedError as refusal:
                    self.refusals.append((address, refusal))
                except Exception as error:  # noqa: BLE001  whatever it is, the device must come back online one day
                    self.refusals.append((address, RefusedError(f"unexpected {error!r}")))
                else:
                    break
            if self.abandoned and self.session is not None:
                self.session.close()
        finally:
            self.done.set()


class Link:
    """Keeps one session open; `session` is None while there is none. All methods are for one thread."""

    def __init__(
        self,
        settings: Mqtt,
        client_id: str,
        will: Will,
        environ: Mapping[str, str],
        *,
        backoff: Backoff,
        clock: Callable[[], float],
        return_after_s: float = RETURN_AFTER_S,
    ) -> None:
        self.session: Session | None = None
        self.connections = 0
        self._settings, self._will = settings, will
        self._brokers = addresses(settings)
        self._connect = lambda address: open_session(settings, address, client_id, will, environ, clock=clock)
        self._backoff, self._clock, self._return_after_s = backoff, clock, return_after_s
        self._complaints = Complaints(clock)
        self._attempt: _Attempt | None = None
        self._index = 0
        self._failures = 0
        self._due_s = float("inf")
        self._began_s = 0.0
        self._is_news = True  # whether the log's last word about this broker is that it is away

    def start(self) -> None:
        """Begin to connect, in the background; a fleet that is switched on as one spreads itself out."""
        self._due_s = self._clock() + random.uniform(0.0, self._settings.first_connect_within_s)  # noqa: S311
        self.turn()

    def turn(self) -> None:
        """Read and write what is due; notice what ended or was found; never blocks."""
        if self.session is not None:
            self.session.turn()
            if self.session.ended:
                self._lost(self.session)
            elif self._clock() - self._began_s >= CALM_S:
                self._complaints.clear()
        if self._attempt is not None and self._attempt.done.is_set():
            attempt, self._attempt = self._attempt, None
            self._finish(attempt)
        if self._attempt is None and self._clock() >= self._due_s:
            self._begin()

    def stop(self) -> None:
        """End the session with a DISCONNECT, which keeps the will from being sent; an attempt ends by itself."""
        self._due_s = float("inf")
        if self._attempt is not None:
            self._attempt.abandoned = True
            if self._attempt.done.is_set() and self._attempt.session is not None:
                self._attempt.session.close()
            self._attempt = None
        if self.session is not None:
            self.session.close()
            self.session = None

    def abandon(self, reason: str) -> None:
        """Give up a session that is open but of no use, so that the broker sends the will; connect again."""
        if self.session is not None:
            self.session.abort(reason)

    def _begin(self) -> None:
        """Ask every broker, or those that are better than the present one."""
        self._due_s = float("inf")
        brokers = self._brokers if self.session is None else self._brokers[: self._index]
        self._attempt = _Attempt(brokers)
        # A daemon thread: a name server that does not answer must not keep the process from ending.
        threading.Thread(target=self._attempt.run, args=(self._connect,), name="mqtt-connect", daemon=True).start()

    def _finish(self, attempt: _Attempt) -> None:
        if attempt.session is not None:
            self._complain(attempt, then=f"; {attempt.brokers[attempt.index]} serves instead")
            self._open(attempt.session, attempt.index)
        elif self.session is not None:  # no better broker yet: not worth a word
            self._due_s = self._clock() + self._return_after_s
        else:
            self._complain(attempt, then="; steps wait in the outbox")
            self._retry()

    def _complain(self, attempt: _Attempt, *, then: str) -> None:
        for address, why in attempt.refusals:
            said = self._complaints.log(f"no MQTT broker at {address}: {why}{then}", key=f"no {address} {why.kind}")
            self._is_news = self._is_news or said

    def _open(self, session: Session, index: int) -> None:
        if self.session is not None:  # a better broker: leave this one as a device does that is switched off
            self.session.publish(self._will.topic, self._will.payload, retain=True)
            self.session.close()
        self.session, self._index, self._began_s = session, index, self._clock()
        self.connections += 1
        self._due_s = float("inf") if index == 0 else self._clock() + self._return_after_s
        if self._is_news:
            version = "5" if session.is_mqtt5 else "3.1.1"
            log.info("connected to the MQTT broker at %s (MQTT %s)", self._brokers[index], version)
            self._is_news = False

    def _lost(self, session: Session) -> None:
        where = self._brokers[self._index]
        text = f"lost the MQTT broker at {where}: {session.reason}; steps wait in the outbox"
        self._is_news = self._complaints.log(text, key=f"lost {where}") or self._is_news
        session.close()
        self.session = None
        if self._clock() - self._began_s >= STABLE_S:
            self._failures = 0
        self._retry()

    def _retry(self) -> None:
        self._due_s = self._clock() + self._backoff.delay_s(self._failures)
        self._failures += 1
