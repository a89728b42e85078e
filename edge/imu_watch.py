"""Carries what the sensor's source knows to everybody who asks: the log, systemd, the state, info and health topics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge.imu.status import SensorState

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.health import Health
    from edge.imu import Imu
    from edge.imu.status import SensorStatus
    from edge.payloads import DeviceInfo, Quality
    from edge.publisher import Publisher

log = logging.getLogger("footfall")

SENSOR_SILENT_S = 2.0
"""No sample for so long: the sensor is gone as far as anyone who reads the count is concerned."""
_QUALITY: dict[SensorState, Quality] = {
    SensorState.RUNNING: "ok",
    SensorState.DEGRADED: "degraded",
    SensorState.LOST: "no_sensor",
    SensorState.PROBING: "no_sensor",
}


def quality(silent_s: float, *, is_storing: bool = True, state: SensorState = SensorState.RUNNING) -> Quality:
    """Return what the count is worth when the sensor is in this state and has been silent for so long."""
    worth = "no_sensor" if silent_s > SENSOR_SILENT_S else _QUALITY[state]
    return "degraded" if worth == "ok" and not is_storing else worth


def totals(imu: Imu) -> dict[str, int]:
    """Sum a source's own counters up to the two that every source has."""
    counters = imu.counters()
    return {
        "samples_dropped": counters.get("gap_samples", 0) + counters.get("frozen_samples", 0),
        "bus_errors": counters.get("bad_register", 0) + counters.get("bad_transfer", 0),
    }


def sensor_report(imu: Imu) -> dict[str, object]:
    """Return the health topic's `sensor`: name, state and why, true rate, silence, and every counter by name."""
    status = imu.status()
    return {
        "name": imu.name,
        "state": str(status.state),
        "reason": status.reason,
        "rate_hz": None if status.rate_hz is None else round(status.rate_hz, 3),
        "silent_s": None if status.silent_s is None else round(status.silent_s, 1),
        **imu.counters(),
    }


class SensorWatch:
    """Tells of every change of the sensor. describe: makes the birth message anew, with the sensor as it is now."""

    def __init__(self, imu: Imu, publisher: Publisher, health: Health, describe: Callable[[], DeviceInfo]) -> None:
        self._imu, self._publisher, self._health, self._describe = imu, publisher, health, describe
        self._seen: SensorStatus | None = None
        self._said = ""
        self._named = (imu.name, imu.sampling_rate_hz)
        health.sensor_counters = lambda: totals(imu)
        health.sensor = lambda: sensor_report(imu)

    def turn(self, silent_s: float, *, is_storing: bool) -> None:
        """Call it once per turn of the pipeline: cheap while nothing changes."""
        now, seen = self._imu.status(), self._seen
        self._publisher.hardware_total = self._imu.hardware_total
        self._publisher.quality = quality(silent_s, is_storing=is_storing, state=now.state)
        if (sentence := self.sentence(now)) != self._said:
            self._said = sentence
            self._health.systemd.status(sentence)
        if seen is None or (now.state, now.reason) != (seen.state, seen.reason):
            if seen is not None:
                self._publisher.hurry_health()
            self._seen = now
        named = (self._imu.name, self._imu.sampling_rate_hz)
        if named != self._named:
            self._named = named
            log.info("counting steps from %s at %g Hz", *named)
            self._publisher.set_info(self._describe())

    def beat(self) -> None:
        """Feed the watchdog: the loop is alive, whatever the sensor does."""
        self._health.beat()

    def sentence(self, status: SensorStatus) -> str:
        """Say in one line what the device does now."""
        offline = "" if self._publisher.connected else "; not connected to the MQTT broker: steps wait in the outbox"
        if status.state in (SensorState.LOST, SensorState.PROBING):
            return f"no sensor ({status.state}): {status.reason}{offline}"
        trouble = f"; sensor {status.state}: {status.reason}" if status.state is SensorState.DEGRADED else ""
        return f"counting steps from {self._imu.name}{trouble}{offline}"
