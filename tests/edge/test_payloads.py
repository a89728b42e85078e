"""Topics' payloads as the contract has them."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import payloads
from edge.outbox import OutboxRow


def row(seq: int, ts_ms: int, *, confidence: float = 0.876, cadence_spm: float | None = None) -> OutboxRow:
    return OutboxRow(1000 + seq, "boot", seq, ts_ms, 0.0, confidence, cadence_spm)


@given(st.integers(0, 4102444800000))
def test_times_are_rfc_3339_in_utc_to_the_millisecond(ms: int) -> None:
    text = payloads.rfc3339(ms)
    assert len(text) == 24
    assert text.endswith("Z")
    assert round(datetime.fromisoformat(text).timestamp() * 1000) == ms


def test_a_step_without_a_cadence_says_null() -> None:
    assert payloads.step(row(7, 1_500)) == (
        b'{"v":1,"event_type":"step","boot_id":"boot","seq":7,"ts":"1970-01-01T00:00:01.500Z","total":1007,'
        b'"confidence":0.876,"cadence_spm":null}'
    )


def test_a_batch_names_every_step() -> None:
    rows = [row(7, 5_000), row(8, 5_510, confidence=1.0), row(9, 4_900, confidence=0.0)]
    assert json.loads(payloads.batch(rows, late=True)) == {
        "v": 1,
        "boot_id": "boot",
        "seq0": 7,
        "t0": 5000,
        "dt": [0, 510, -100],
        "confidence": [88, 100, 0],
        "total": 1009,
        "late": True,
    }


def test_a_batch_of_twenty_steps_is_less_than_a_tenth_of_twenty_messages() -> None:
    boot_id = "0b6c7f0e-1111-4222-8333-444455556666"
    rows = [OutboxRow(18000 + i, boot_id, i, 1795842765678 + 571 * i, 0.0, 0.91, 104.0) for i in range(1, 21)]
    single = sum(len(payloads.step(one)) for one in rows)
    assert (len(payloads.batch(rows, late=False)), single) == (291, 3371)


def test_steps_is_a_plain_integer() -> None:
    assert payloads.steps(0) == b"0"
    assert payloads.steps(123456789012) == b"123456789012"


def test_a_number_that_json_cannot_hold_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        payloads.step(row(1, 0, confidence=float("nan")))
