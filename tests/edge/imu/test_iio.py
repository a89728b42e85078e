"""The kernel's IIO buffer as a source, against faked files; the real kernel is in tests/uml."""

from __future__ import annotations

import errno
import itertools
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImuError
from edge.imu import open_imu
from edge.imu.iio import SYSFS, find, same_part
from edge.imu.iio_sysfs import Element, Layout, available, explain
from edge.settings import Sensor
from edge.types import BatchFlag
from tests.edge.imu.iio_tree import ELEMENTS, HALF, MPU6050, Tree, half_scan, mpu_scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge.imu.iio import IioImu
    from edge.types import SampleBatch

ACC_LSB, GYR_LSB = 0.002392, 0.000532362


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    tree.close()


@pytest.fixture
def mpu(tree: Tree) -> Tree:
    tree.add(MPU6050, ELEMENTS)
    return tree


def take(imu: IioImu, samples: int, limit: int = 100) -> list[SampleBatch]:
    """Batches until so many samples have come."""
    taken, count = [], 0
    for batch in itertools.islice(imu.batches(), limit):
        taken.append(batch)
        count += len(batch.time_s)
        if count >= samples:
            break
    assert count == samples
    return [batch for batch in taken if len(batch.time_s)]


def scans(start_s: float, count: int, step_s: float = 0.01) -> list[bytes]:
    return [mpu_scan(start_s + index * step_s, (index, -index, 4100), (0, 7, -index)) for index in range(count)]


# What the bytes mean.


@st.composite
def elements_and_scans(draw: st.DrawFn) -> tuple[list[Element], list[dict[str, int]], bytes]:
    """Draw scans of random channels, packed one by one as the kernel documents it."""
    elements = []
    for index in range(draw(st.integers(1, 6))):
        storage = draw(st.sampled_from([8, 16, 32, 64]))
        bits = draw(st.integers(1, storage))
        shift = draw(st.integers(0, storage - bits))
        signed = draw(st.booleans()) or bits == 64
        sign, order = "s" if signed else "u", draw(st.sampled_from(["be", "le"]))
        elements.append(Element.parse(f"c{index}", str(10 * index), f"{order}:{sign}{bits}/{storage}>>{shift}\n"))
    values, data = [], bytearray()
    for _ in range(draw(st.integers(1, 3))):
        row, scan = {}, bytearray()
        for element in elements:
            low = -(1 << element.bits - 1) if element.signed else 0
            row[element.name] = draw(st.integers(low, low + (1 << element.bits) - 1))
            rest = draw(st.integers(0, (1 << element.storage_bits) - 1))
            field = (((1 << element.bits) - 1) << element.shift) & ((1 << element.storage_bits) - 1)
            word = (rest & ~field) | ((row[element.name] << element.shift) & field)
            size = element.storage_bits // 8
            scan += bytes(-len(scan) % size)
            scan += word.to_bytes(size, "big" if element.big_endian else "little")
        scan += bytes(-len(scan) % max(element.storage_bits // 8 for element in elements))
        values.append(row)
        data += scan
    return draw(st.permutations(elements)), values, bytes(data)


@given(elements_and_scans())
def test_any_layout_is_read_as_the_kernel_writes_it(case: tuple[list[Element], list[dict[str, int]], bytes]) -> None:
    elements, values, data = case
    columns = Layout(elements).decode(data)
    assert [{name: int(column[row]) for name, column in columns.items()} for row in range(len(values))] == [
        {element.name: row[element.name] for element in Layout(elements).elements} for row in values
    ]


def test_a_cut_scan_is_refused() -> None:
    with pytest.raises(ImuError, match="no multiple of a scan's 2"):
        Layout([Element.parse("accel_x", "0", "be:s16/16>>0")]).decode(b"123")


@pytest.mark.parametrize("text", ["", "be:s16/16", "me:s16/16>>0", "le:s16/16X4>>0", "le:s24/24>>0", "le:s12/16>>8"])
def test_a_format_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ImuError, match="IIO channel accel_x has the format"):
        Element.parse("accel_x", "0", text)


def test_offered_values() -> None:
    assert available("10 20 50 100\n") == [10.0, 20.0, 50.0, 100.0]
    assert available("[12.5 12.5 50]\n") == [12.5, 25.0, 37.5, 50.0]
    with pytest.raises(ImuError, match="expected are numbers"):
        available("fast slow")


# Samples.


def test_samples_come_in_si_units_with_the_kernel_s_times(mpu: Tree) -> None:
    start_s = time.monotonic()
    mpu.feed(scans(start_s, 20))
    imu = mpu.imu()
    (batch,) = take(imu, 20)
    index = np.arange(20)
    np.testing.assert_allclose(batch.time_s, start_s + 0.01 * index, atol=1e-8)
    np.testing.assert_allclose(batch.imu[:, 0], index * ACC_LSB, rtol=1e-5)
    np.testing.assert_allclose(batch.imu[:, 2], 4100 * ACC_LSB, rtol=1e-5)
    np.testing.assert_allclose(batch.imu[:, 5], -index * GYR_LSB, rtol=1e-5)
    assert (batch.segment, batch.sequence, batch.flags) == (0, 0, BatchFlag.NONE)
    assert batch.imu.dtype == np.float32
    assert (imu.name, imu.sampling_rate_hz) == ("mpu6050 (IIO)", 100.0)
    assert set(imu.counters().values()) == {0}


@pytest.mark.parametrize("buffer", ["buffer0", "buffer"])
def test_the_device_is_set_up(tree: Tree, buffer: str) -> None:
    tree.add(MPU6050 | {"trigger/current_trigger": ""}, ELEMENTS, buffer=buffer)
    trigger = tree.sysfs / "trigger0"
    trigger.mkdir()
    (trigger / "name").write_text("mpu6050-dev0\n")
    imu = tree.imu(sampling_rate_hz=104)
    assert tree.text("current_timestamp_clock") == "monotonic"
    assert (tree.text("sampling_frequency"), imu.sampling_rate_hz) == ("100", 100.0)
    assert tree.text("in_accel_scale") == "0.002392"  # ±8 g
    assert tree.text("in_anglvel_scale") == "0.000532362"  # ±1000 °/s
    assert tree.text("trigger/current_trigger") == "mpu6050-dev0"
    place = "buffer0" if buffer == "buffer0" else "scan_elements"
    assert {name: tree.text(f"{place}/in_{name}_en") for name in ELEMENTS} == {
        name: "0" if name == "temp" else "1" for name in ELEMENTS
    }
    assert [tree.text(f"{buffer}/{name}") for name in ("enable", "length", "watermark")] == ["1", "1000", "21"]
    imu.close()
    imu.close()
    assert tree.text(f"{buffer}/enable") == "0"


def test_a_trigger_that_the_user_chose_stays(tree: Tree) -> None:
    tree.add(MPU6050 | {"trigger/current_trigger": "hrtimer-100"}, ELEMENTS)
    tree.imu().close()
    assert tree.text("trigger/current_trigger") == "hrtimer-100"


def test_a_hole_in_the_times_is_a_gap(mpu: Tree) -> None:
    start_s = time.monotonic()
    mpu.feed([*scans(start_s, 10), *scans(start_s + 0.25, 10)])
    imu = mpu.imu()
    first, second = take(imu, 20)
    assert [batch.segment for batch in (first, second)] == [0, 1]
    assert (second.sequence, second.flags) == (10, BatchFlag.GAP_BEFORE)
    assert (imu.counters()["gaps"], imu.counters()["gap_samples"]) == (1, 15)


def test_one_lost_sample_is_a_gap_and_jitter_is_none(mpu: Tree) -> None:
    start_s = time.monotonic()
    jitter = np.tile([0.002, -0.002], 10)
    mpu.feed([mpu_scan(start_s + 0.01 * index + jitter[index], (0, 0, 0)) for index in range(20) if index != 12])
    imu = mpu.imu()
    assert [len(batch.time_s) for batch in take(imu, 19)] == [12, 7]
    assert imu.counters()["gap_samples"] == 1


def test_times_never_stand_still_nor_step_back(mpu: Tree) -> None:
    start_s = time.monotonic()
    offsets = [0.0, 0.01, 0.02, 0.015, 0.015, 0.03]
    imu = mpu.imu()
    mpu.feed([mpu_scan(start_s + offset, (0, 0, 0)) for offset in offsets])
    mpu.feed([mpu_scan(start_s + 0.028, (0, 0, 0)), mpu_scan(start_s + 0.04, (0, 0, 0))])
    times = np.concatenate([batch.time_s for batch in take(imu, 8)])
    assert np.diff(times).min() >= 0.0004
    np.testing.assert_allclose(times[[0, 1, 2, 5, 7]] - start_s, [0.0, 0.01, 0.02, 0.03, 0.04], atol=1e-6)


def test_the_true_rate_is_learnt(mpu: Tree) -> None:
    imu = mpu.imu()
    mpu.feed(scans(time.monotonic(), 1000, 1 / 103.0))
    take(imu, 1000)
    assert 101.5 < imu.rate_hz < 103.0
    assert imu.counters()["gaps"] == 0


def test_two_devices_are_put_together(tree: Tree) -> None:
    for number, kind in enumerate(("accel", "anglvel")):
        attributes = {
            "name": f"lsm6dsox_{'gyro' if kind == 'anglvel' else kind}",
            "current_timestamp_clock": "realtime",
            "sampling_frequency": "12.5",
            "sampling_frequency_available": "12.5 26 52 104 208",
            f"in_{kind}_scale": "0.002394" if kind == "accel" else "0.00061086",
        }
        if kind == "accel":  # the gyroscope of the kernel's st_lsm6dsx shows none
            attributes["mount_matrix"] = "0, -1, 0; 1, 0, 0; 0, 0, 1"
        elements = {**HALF[kind], "timestamp": (3, "le:s64/64>>0")}
        tree.add(attributes, elements, number=number, client="1-006a")
    start_s = time.monotonic()
    imu = tree.imu(type="lsm6dsox", mount_matrix=((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    assert (imu.name, imu.sampling_rate_hz) == ("lsm6dsox_accel (IIO)", 104.0)
    step_s = 1 / 104
    tree.feed([half_scan(start_s + i * step_s, (i, 2 * i, 3 * i)) for i in range(21)], 0)
    tree.feed([half_scan(start_s + (i - 0.5) * step_s, (10 * i, 0, 7)) for i in range(21)], 1)
    # Two quarter turns about z, the overlay's and the configuration's: x and y change their signs.
    batches = imu.batches()
    batch = next(batches)
    index = np.arange(20)
    np.testing.assert_allclose(batch.imu[:, :3], np.stack([-index, -2 * index, 3 * index], 1) * 0.002394, atol=1e-5)
    np.testing.assert_allclose(batch.imu[:, 3], -(10 * index + 5) * 0.00061086, atol=1e-5)
    np.testing.assert_allclose(batch.imu[:, 5], 7 * 0.00061086, atol=1e-5)
    # The gyroscope's stamps run ahead of the accelerometer's: its older samples are still needed for the next block.
    tree.feed([half_scan(start_s + (i - 0.5) * step_s, (10 * i, 0, 7)) for i in range(21, 30)], 1)
    late = next(one for one in batches if len(one.time_s))
    assert len(late.time_s) == 1
    assert late.imu[0, 0] == pytest.approx(-20 * 0.002394, abs=1e-5)
    tree.feed([half_scan(start_s + i * step_s, (i, 2 * i, 3 * i)) for i in range(21, 24)], 0)
    rest = next(one for one in batches if len(one.time_s))
    np.testing.assert_allclose(rest.imu[:, 3], -(10 * np.arange(21, 24) + 5) * 0.00061086, atol=1e-5)


# What goes wrong.


def test_heartbeats_while_nothing_comes_then_the_device_is_opened_anew(mpu: Tree) -> None:
    offset_s = [0.0]
    imu = mpu.imu(offset_s)
    batches = imu.batches()
    assert len(next(batches).time_s) == 0
    offset_s[0] = 5.0  # that is too long for an edge that was only missed
    for _ in range(20):
        next(batches)
        if imu.counters()["reinit"]:
            break
    mpu.feed(scans(time.monotonic() + 5.0, 5))
    assert len(next(batch for batch in batches if len(batch.time_s)).time_s) == 5
    assert imu.counters() == {"bad_transfer": 0, "reinit": 1, "gaps": 0, "gap_samples": 0}


def test_a_chip_that_cannot_be_reached_is_left_to_the_kernel(mpu: Tree) -> None:
    calibration = mpu.device(0) / "in_accel_x_calibbias"
    calibration.mkdir()  # reading it fails, as it does with EIO while the bus is wedged
    offset_s = [0.0]
    imu = mpu.imu(offset_s)
    batches = imu.batches()
    for _ in range(3):
        next(batches)
        offset_s[0] += 3.0
    assert mpu.text("buffer0/enable") == "1"
    assert (imu.counters()["bad_transfer"], imu.counters()["reinit"]) == (2, 0)
    calibration.rmdir()
    next(batch for batch in batches if imu.counters()["reinit"])


def test_a_driver_that_was_unbound_comes_back_as_a_gap(mpu: Tree) -> None:
    imu = mpu.imu()
    start_s = time.monotonic()
    mpu.feed(scans(start_s, 5))
    batches = imu.batches()
    assert len(next(batches).time_s) == 5
    mpu.unplug()
    next(batch for batch in batches if imu.counters()["bad_transfer"])
    mpu.plug()
    next(batch for batch in batches if imu.counters()["reinit"])
    mpu.feed(scans(start_s + 1.0, 5))
    back = next(batch for batch in batches if len(batch.time_s))
    assert (back.segment, back.flags) == (1, BatchFlag.GAP_BEFORE)
    assert imu.counters() == {"bad_transfer": 1, "reinit": 1, "gaps": 1, "gap_samples": 95}


def test_stamps_of_another_clock_are_refused(mpu: Tree) -> None:
    imu = mpu.imu()
    mpu.feed(scans(time.time(), 5))
    assert len(next(imu.batches()).time_s) == 0
    assert imu.counters()["bad_transfer"] == 1


def test_close_ends_batches_and_lets_go(mpu: Tree) -> None:
    imu = mpu.imu()
    batches = imu.batches()
    next(batches)
    imu.close()
    assert list(batches) == []
    assert mpu.text("buffer0/enable") == "0"


def test_no_device_at_all(tmp_path: Path) -> None:
    with pytest.raises(ImuError, match=r"no IIO accelerometer .*wanted: any; there: none\): load the sensor's overlay"):
        find(Sensor(), tmp_path, tmp_path)


@pytest.mark.skipif(SYSFS.exists(), reason="this machine has IIO devices")
def test_open_imu_names_what_is_missing() -> None:
    with pytest.raises(ImuError, match=r"no IIO accelerometer in /sys/bus/iio/devices.*sensor.backend: i2c"):
        open_imu(Sensor(backend="iio"))


@pytest.mark.parametrize("settings", [{"type": "mpu9250"}, {"address": 0x69}])
def test_another_device_is_not_taken(mpu: Tree, settings: dict[str, object]) -> None:
    with pytest.raises(ImuError, match="there: mpu6050"):
        mpu.sensor(**settings)


def test_of_two_the_one_on_the_configured_bus(tree: Tree) -> None:
    tree.add(MPU6050 | {"name": "mpu6500"}, ELEMENTS, number=0, client="7-0068")
    tree.add(MPU6050, ELEMENTS, number=1, client="1-0068")
    assert tree.sensor(bus=1).name == "mpu6050"
    assert tree.sensor(bus=7).name == "mpu6500"
    assert tree.sensor(bus=3).name == "mpu6500"


def test_no_buffer_without_a_data_ready_line(tree: Tree) -> None:
    raw = {f"in_accel_{axis}_raw": "0" for axis in "xyz"}
    tree.add(MPU6050 | raw, {})
    with pytest.raises(
        ImuError, match=r"mpu6050 .* has no buffer it could fill: its INT pin is not wired.*backend: i2c"
    ):
        tree.sensor()


def test_no_trigger_without_a_data_ready_line(tree: Tree) -> None:
    tree.add(MPU6050 | {"trigger/current_trigger": ""}, ELEMENTS)
    with pytest.raises(ImuError, match="INT pin is not wired"):
        tree.sensor()
    assert tree.text("buffer0/enable") == "0"


def test_a_kernel_whose_clock_cannot_be_chosen(tree: Tree) -> None:
    attributes = {name: text for name, text in MPU6050.items() if name != "current_timestamp_clock"}
    directory = tree.add(attributes, ELEMENTS)
    (directory / "current_timestamp_clock").mkdir()  # cannot be written
    with pytest.raises(ImuError, match=r"current_timestamp_clock \(value monotonic\)"):
        tree.sensor()


@pytest.mark.parametrize("text", ["1, 0; 0, 1", "1, 0, 0; 0, 1, 0; 0, 0, x", "2, 0, 0; 0, 2, 0; 0, 0, 2"])
def test_a_mount_matrix_that_is_no_rotation(tree: Tree, text: str) -> None:
    tree.add(MPU6050 | {"in_accel_mount_matrix": text}, ELEMENTS)
    with pytest.raises(ImuError, match="in_accel_mount_matrix is"):
        tree.sensor()


def test_a_scale_that_is_no_number(tree: Tree) -> None:
    attributes = {name: text for name, text in MPU6050.items() if name != "in_accel_scale_available"}
    tree.add(attributes | {"in_accel_scale": "broken"}, ELEMENTS)
    with pytest.raises(ImuError, match="in_accel_scale is 'broken'; expected is a number above 0"):
        tree.sensor()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "no permission for /x: .*udev rule"),
        (errno.EBUSY, "another program reads this buffer"),
        (errno.ENODEV, "driver is not bound"),
        (errno.ENOENT, "driver is not bound"),
        (errno.EINVAL, "refused"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_words_for_a_file_that_does_not_obey(number: int, words: str) -> None:
    with pytest.raises(ImuError, match=words):
        raise ImuError(explain(OSError(number, os.strerror(number)), "/x"))


@pytest.mark.parametrize(
    ("name", "wanted", "same"),
    [
        ("mpu6050", "mpu6050", True),
        ("icm42688-accel", "icm42688p", True),
        ("lsm6ds3tr-c_accel", "lsm6ds3trc", True),
        ("lsm9ds1-imu_accel", "lsm9ds1", True),
        ("bmi160", "mpu6050", False),
    ],
)
def test_names_of_parts(name: str, wanted: str, same: bool) -> None:
    assert same_part(name, wanted) is same
