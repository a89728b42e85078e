"""The pedometer inside the sensor: a total that never goes down, whatever the counter does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.imu.pedometer import COUNTER_SIZE, POLL_S, HardwareTotal


def fed(*counts: int, attach_before: tuple[int, ...] = ()) -> list[int | None]:
    """Feed one count every two seconds; return the total after each."""
    hardware, totals = HardwareTotal(), []
    hardware.attach(0.0)
    for index, count in enumerate(counts):
        now_s = 2.0 * (index + 1)
        if index in attach_before:
            hardware.attach(now_s - 1.0)
        hardware.feed(count, now_s)
        totals.append(hardware.total)
    return totals


def test_nothing_is_known_before_the_first_answer() -> None:
    assert HardwareTotal().total is None
    assert fed(0) == [0]


def test_steps_add_up_also_those_held_back_at_the_start_of_a_walk() -> None:
    assert fed(0, 10, 14, 14) == [0, 10, 14, 14]


def test_the_counter_wraps() -> None:
    hardware = HardwareTotal()
    hardware.attach(0.0)
    for turn in range(1, 20_001):
        hardware.feed(turn * 4 % COUNTER_SIZE, turn * 2.0)
    assert hardware.total == 80_000


def test_a_reset_of_the_counter_costs_nothing() -> None:
    assert fed(8, 16, 3, 7) == [8, 16, 19, 23]


def test_a_chip_that_is_set_up_anew_counts_from_zero() -> None:
    assert fed(8, 16, 2, 9, attach_before=(2,)) == [8, 16, 18, 25]


def test_a_corrupt_reading_is_not_counted() -> None:
    assert fed(8, 0xFFFF, 12) == [8, 8, 12]
    assert fed(8, 0x3A08, 12) == [8, 8, 12]


def test_a_jump_that_is_confirmed_is_the_new_base() -> None:
    assert fed(8, 5000, 5004, 5008) == [8, 8, 8, 12]


@given(st.lists(st.integers(0, 0xFFFF), max_size=30), st.sets(st.integers(0, 29)))
def test_the_total_never_goes_down(counts: list[int], attached: set[int]) -> None:
    totals = [total or 0 for total in fed(*counts, attach_before=tuple(attached))]
    assert totals == sorted(totals)


def test_the_chip_is_asked_seldom() -> None:
    hardware = HardwareTotal()
    asked = [turn / 10.0 for turn in range(250) if hardware.due(turn / 10.0)]
    assert asked == [0.0, POLL_S, 2 * POLL_S, 3 * POLL_S, 4 * POLL_S]
