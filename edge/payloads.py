"""The MQTT contract's topics and payloads: pure functions, no clock, no network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.outbox import OutboxRow

Quality = Literal["ok", "degraded", "no_sensor"]
"""What the counts are worth right now."""

ONLINE, OFFLINE = b"online", b"offline"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """The birth message: what runs here. odr_hz is the rate the sensor really delivers."""

    software_version: str
    model_name: str
    model_version: str
    model_sha256: str
    sensor: str
    odr_hz: float
    boot_id: str
    config_hash: str
    host: str


@dataclass(frozen=True, slots=True)
class State:
    """The state topic without its time stamp, so that two states can be compared.

    hardware_total: steps of the sensor's own pedometer since the daemon started, to be compared with seq; None where
    it has none.
    """

    total: int
    today: int
    cadence_spm: float | None
    last_step_ms: int | None
    seq: int
    boot_id: str
    quality: Quality
    hardware_total: int | None = None


def rfc3339(ms: int) -> str:
    """Write ms since the epoch as UTC with milliseconds: 2026-11-23T06:12:45.678Z."""
    seconds, milliseconds = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def about(device: DeviceInfo) -> dict[str, object]:
    """Return what .../info and the reply to the command `info` say."""
    return {
        "schema": 1,
        "software_version": device.software_version,
        "model": {"name": device.model_name, "version": device.model_version, "sha256": device.model_sha256},
        "sensor": {"name": device.sensor, "odr_hz": device.odr_hz},
        "boot_id": device.boot_id,
        "config_hash": device.config_hash,
        "host": device.host,
    }


def info(device: DeviceInfo) -> bytes:
    """Write the payload of .../info."""
    return _json(about(device))


def steps(total: int) -> bytes:
    """Write the payload of .../steps: a plain decimal integer."""
    return str(total).encode()


def state(now: State, ts_ms: int) -> bytes:
    """Write the payload of .../state."""
    return _json(
        {
            "total": now.total,
            "today": now.today,
            "cadence_spm": _rounded(now.cadence_spm, 1),
            "last_step": None if now.last_step_ms is None else rfc3339(now.last_step_ms),
            "seq": now.seq,
            "boot_id": now.boot_id,
            "ts": rfc3339(ts_ms),
            "quality": now.quality,
            "hardware_total": now.hardware_total,
        }
    )


def step(row: OutboxRow) -> bytes:
    """Write the payload of .../step: one live step."""
    return _json(
        {
            "v": 1,
            "event_type": "step",
            "boot_id": row.boot_id,
            "seq": row.seq,
            "ts": rfc3339(row.ts_ms),
            "total": row.total,
            "confidence": _rounded(row.confidence, 3),
            "cadence_spm": _rounded(row.cadence_spm, 1),
        }
    )


def batch(rows: Sequence[OutboxRow], *, late: bool) -> bytes:
    """Write the payload of .../batch.

    rows: at least one, of one boot_id, without a gap in seq, so that the step at index i has seq = seq0 + i. It
    happened at t0 + dt[i] (ms since the epoch, dt[0] = 0; negative only where the wall clock was set back).
    confidence is in percent; total is the lifetime total with the last of these steps.
    """
    first = rows[0]
    return _json(
        {
            "v": 1,
            "boot_id": first.boot_id,
            "seq0": first.seq,
            "t0": first.ts_ms,
            "dt": [row.ts_ms - first.ts_ms for row in rows],
            "confidence": [round(row.confidence * 100.0) for row in rows],
            "total": rows[-1].total,
            "late": late,
        }
    )


def health(report: Mapping[str, object]) -> bytes:
    """Write the payload of .../health."""
    return _json(report)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
