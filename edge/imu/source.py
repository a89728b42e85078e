"""What every source that may lose its sensor has in common, whether it reads a chip or the kernel's buffer.

A sensor that is not there, at the start or later, is looked for with growing pauses, bus and all, while empty batches
keep the pipeline alive. Only a sensor that has been calm for a while shortens the pauses again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import ImuError
from edge.imu.status import SensorState, SensorStatus, StateMachine
from edge.types import SampleBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BACKOFF_S = (0.1, 2.0)
HEARTBEAT_S = 0.7


class ReconnectingImu(ABC):
    """An Imu whose sensor may come and go. A subclass opens it, reads it, lets go of it, and says when it is lost.

    wait_for_hz: None opens it now, or raises ImuError; otherwise it is waited for in batches(), and until it has come
    this is what `sampling_rate_hz` says. `name` and `sampling_rate_hz` are those of the sensor that was found last.
    """

    def __init__(
        self,
        counters: Sequence[str],
        wait_for_hz: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._counters = dict.fromkeys(counters, 0)
        self._machine = StateMachine(clock)
        self.name = "no sensor yet"
        self.sampling_rate_hz = wait_for_hz or 0.0
        self._last_s: float | None = None
        self._segment = self._sequence = 0
        self._due_s = clock()
        self._backoff_s = BACKOFF_S[0]
        self._stopped = self._busy = False

    @property
    @abstractmethod
    def rate_hz(self) -> float:
        """The measured rate of the sensor against the host's clock."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether there is a sensor to read."""

    @abstractmethod
    def _open(self) -> None:
        """Find the sensor and start it, for the first time or again; ImuError if that fails."""

    @abstractmethod
    def _read(self) -> Sequence[SampleBatch]:
        """Wait for the next samples; none for a heartbeat."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the sensor, if it is open; never raises."""

    def counters(self) -> dict[str, int]:
        """Everything that went wrong since the source was opened, by name."""
        return dict(self._counters)

    def status(self) -> SensorStatus:
        """Return state, reason, true rate and how long there has been no good sample."""
        if self._last_s is None:
            return SensorStatus(self._machine.state, self._machine.reason)
        silent_s = self._clock() - self._last_s
        return SensorStatus(self._machine.state, self._machine.reason, self.rate_hz, silent_s)

    def close(self) -> None:
        """End batches(); safe in a signal handler, in the middle of a read too: the sensor is released afterwards."""
        self._stopped = True
        if not self._busy:
            self._release()

    def batches(self) -> Iterator[SampleBatch]:
        """Yield a batch about every 0.6 s until close(); an empty one at least every 0.7 s while there is no data."""
        try:
            while not self._stopped:
                self._busy = True
                batches = self._read() if self._is_open() else self._search()
                self._busy = False
                yield from batches or [self._empty()]
        finally:
            self._busy = False
            self._release()

    def _search(self) -> Sequence[SampleBatch]:
        """Wait a while, or try to open it if the pause is over; always returns within about a heartbeat."""
        wait_s = self._due_s - self._clock()
        if wait_s > 0:
            self._sleep(min(wait_s, HEARTBEAT_S))
        elif not self._stopped:
            if self._machine.state is SensorState.LOST:
                self._machine.change(SensorState.PROBING, self._machine.reason)
            try:
                self._open()
            except ImuError as error:
                self._machine.trouble(str(error))
                self._pause()
        return []

    def _found(self, what: str, *, again: bool) -> None:
        """Say that it is open; what has been lost once is not a good sensor at once."""
        if again:
            self._counters["reinit"] += 1
        state = SensorState.DEGRADED if again else SensorState.RUNNING
        self._machine.change(state, f"{what} {'connected again' if again else 'found'}")

    def _give_up(self, reason: str) -> None:
        self._machine.change(SensorState.LOST, reason)
        self._pause()
        self._release()

    def _pause(self) -> None:
        """Put off the next attempt: one that fails as soon as it runs must not be set up many times a second."""
        self._due_s = self._clock() + self._backoff_s
        self._backoff_s = min(2.0 * self._backoff_s, BACKOFF_S[1])

    def _good(self) -> None:
        """Note that good samples came."""
        if self._machine.good():
            self._backoff_s = BACKOFF_S[0]

    def _empty(self) -> SampleBatch:
        return SampleBatch(np.empty(0), np.empty((0, 6), np.float32), self._segment, self._sequence)
