"""What the collector makes of messages: the device's own payloads become rows, everything else is refused by name."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import payloads
from edge.outbox import OutboxRow
from fleet.rows import rows_of

BOOT = "6f7f3c1e-2f0e-4a53-9f53-0d2c6a1b0c11"
TOPIC = "footfall/hall-1/batch"
BATCH: dict[str, Any] = {
    "v": 1,
    "boot_id": BOOT,
    "seq0": 5,
    "t0": 1_790_000_000_000,
    "dt": [0, 510],
    "confidence": [90, 100],
    "total": 6,
    "late": False,
}


def stored(seq: int, ts_ms: int) -> OutboxRow:
    return OutboxRow(total=seq, boot_id=BOOT, seq=seq, ts_ms=ts_ms, stored_s=0.0, confidence=0.9, cadence_spm=110.0)


def test_a_batch_as_the_device_writes_it() -> None:
    sent = [stored(7, 1_790_000_000_123), stored(8, 1_790_000_000_700)]
    rows = rows_of(TOPIC, payloads.batch(sent, late=True))
    assert [(row.device_id, row.boot_id, row.seq) for row in rows] == [("hall-1", UUID(BOOT), n) for n in (7, 8)]
    assert [round(1000 * row.ts.timestamp()) for row in rows] == [row.ts_ms for row in sent]
    assert [row.confidence for row in rows] == [0.9, 0.9]


@pytest.mark.parametrize("topic", ["footfall/hall-1/step", "a/b/hall-1/step", "footfall.hall-1.step"])
def test_a_live_step_as_the_device_writes_it(topic: str) -> None:
    (row,) = rows_of(topic, payloads.step(stored(7, 1_790_000_000_123)))
    assert (row.device_id, row.seq, round(1000 * row.ts.timestamp())) == ("hall-1", 7, 1_790_000_000_123)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v": 2}, "v = 1"),
        ({"boot_id": "x"}, "UUID"),
        ({"boot_id": 5}, "wrong kind"),
        ({"seq0": 0}, "seq"),
        ({"seq0": True}, "seq"),
        ({"seq0": 2**70}, "seq"),
        ({"t0": 10}, "year 1970"),
        ({"t0": 1e300}, "wrong kind"),
        ({"t0": None}, "no number"),
        ({"dt": [0]}, "same length"),
        ({"dt": [], "confidence": []}, "0 steps"),
        ({"dt": [0, "x"]}, "no number"),
        ({"confidence": [90, 101]}, "confidence"),
        ({"confidence": "ab"}, "same length"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rows_of(TOPIC, json.dumps(BATCH | change).encode())


@pytest.mark.parametrize("missing", ["boot_id", "seq0", "t0", "dt", "confidence", "v"])
def test_nothing_may_be_missing(missing: str) -> None:
    with pytest.raises(ValueError, match=r"missing|v = 1"):
        rows_of(TOPIC, json.dumps({key: value for key, value in BATCH.items() if key != missing}).encode())


@pytest.mark.parametrize(
    "topic", ["", "batch", "footfall/UPPER/batch", "footfall/x/state", "footfall//batch", "a/b c/step"]
)
def test_only_step_topics_of_devices(topic: str) -> None:
    with pytest.raises(ValueError, match=r"topic|missing"):
        rows_of(topic, json.dumps(BATCH).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@given(
    topic=st.text() | st.just(TOPIC), payload=st.binary() | json_values.map(lambda value: json.dumps(value).encode())
)
def test_junk_is_refused_and_nothing_else_happens(topic: str, payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        rows_of(topic, payload)


@given(key=st.sampled_from([*BATCH]), value=json_values)
def test_one_value_of_junk_in_a_batch_gives_rows_or_a_refusal(key: str, value: object) -> None:
    with contextlib.suppress(ValueError):
        rows = rows_of(TOPIC, json.dumps(BATCH | {key: value}).encode())
        assert rows
        assert all(0 <= row.confidence <= 1 and row.seq > 0 for row in rows)
