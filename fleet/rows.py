"""Messages on `…/step` and `…/batch` to rows of the step table; whatever does not fit is refused, never guessed."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

MAX_BATCH_STEPS = 10_000
MAX_PAYLOAD_BYTES = 1_000_000
MAX_SEQ = 2**62
_DEVICE_ID = re.compile(r"[a-z0-9-]{1,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (2000, 2200)


class StepRow(NamedTuple):
    """One step. (device_id, boot_id, seq) names it for ever; confidence 0..1."""

    device_id: str
    boot_id: UUID
    seq: int
    ts: datetime
    confidence: float


def rows_of(topic: str, payload: bytes) -> list[StepRow]:
    """Return the steps in one message. topic: …/DEVICE/step or …/DEVICE/batch, levels separated by / or by AMQP's dots.

    Raises ValueError that says what does not fit.
    """
    levels = re.split(r"[/.]", topic)
    if len(levels) < 2 or not _DEVICE_ID.fullmatch(levels[-2]):
        raise ValueError(f"topic {topic[:100]!r} does not end in DEVICE/step or DEVICE/batch")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{len(payload)} bytes; allowed: {MAX_PAYLOAD_BYTES}")
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as error:  # ValueError: JSONDecodeError, UnicodeDecodeError
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(body, dict) or body.get("v") != 1:
        raise ValueError("no object with v = 1")
    try:
        return list(_READERS[levels[-1]](levels[-2], body))
    except KeyError as error:
        raise ValueError(f"{error} is missing, or the topic ends in neither step nor batch") from error
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a value of the wrong kind: {error}") from error


def _step(device_id: str, body: dict[str, Any]) -> list[StepRow]:
    ts = datetime.fromisoformat(body["ts"])
    if ts.tzinfo is None:
        raise ValueError("ts has no time zone")
    return [StepRow(device_id, UUID(body["boot_id"]), _whole(body["seq"]), _sane(ts), _share(body["confidence"]))]


def _batch(device_id: str, body: dict[str, Any]) -> list[StepRow]:
    boot_id, seq0, t0_ms = UUID(body["boot_id"]), _whole(body["seq0"]), _number(body["t0"])
    later_ms, percent = body["dt"], body["confidence"]
    if not isinstance(later_ms, list) or not isinstance(percent, list) or len(later_ms) != len(percent):
        raise ValueError("dt and confidence are not two lists of the same length")
    if not 0 < len(later_ms) <= MAX_BATCH_STEPS:
        raise ValueError(f"{len(later_ms)} steps; allowed: 1 to {MAX_BATCH_STEPS}")
    return [
        StepRow(device_id, boot_id, seq0 + index, _sane(_instant(t0_ms + _number(dt_ms))), _share(_number(share) / 100))
        for index, (dt_ms, share) in enumerate(zip(later_ms, percent, strict=True))
    ]


_READERS = {"step": _step, "batch": _batch}


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MAX_SEQ:
        raise ValueError(f"seq is {str(value)[:40]}; allowed: whole numbers from 1")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]} is no number")
    return value


def _share(value: Any) -> float:
    share = _number(value)
    if not 0 <= share <= 1:
        raise ValueError(f"confidence is {share:g}; allowed: 0 to 1 (in a batch: 0 to 100)")
    return share


def _instant(ms: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _sane(ts: datetime) -> datetime:
    if not _YEARS[0] <= ts.year < _YEARS[1]:
        raise ValueError(f"the time is in the year {ts.year}: did the device know what time it is?")
    return ts
