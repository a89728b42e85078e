"""Unmodified smbus2 and i2c-tools on the emulated bus, and the driver on it in real time."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from smbus2 import I2cFunc, SMBus, i2c_msg

from edge.errors import ImuError
from edge.imu import open_imu
from edge.imu.bus import SmbusBus
from edge.recording import Recording, save_npz
from edge.settings import Sensor
from edge.types import BatchFlag
from emulator import EmulatorError
from emulator.chips.motion import COUNT_MASK, COUNTS, count_in
from emulator.fuse import FuseI2c, main
from emulator.namespace import unavailable
from tests.edge.imu.bench import Run, sample_counts

if TYPE_CHECKING:
    from edge.imu import Imu
    from edge.types import SampleBatch
    from emulator.bus import EmulatedBus
    from emulator.mpu6050 import Mpu6050

pytestmark = pytest.mark.bus

ROOT = Path(__file__).resolve().parents[2]


def test_smbus2_reads_who_am_i(path: str) -> None:
    with SMBus(path) as smbus:
        assert smbus.read_byte_data(0x68, 0x75) == 0x68
        assert smbus.funcs & I2cFunc.I2C


def test_registers_written_one_by_one_and_as_a_block_read_back(path: str) -> None:
    with SMBus(path) as smbus:
        smbus.write_byte_data(0x68, 0x19, 9)
        smbus.write_i2c_block_data(0x68, 0x1A, [3, 0x10, 0x10])
        smbus.write_word_data(0x68, 0x63, 0x1234)
        assert smbus.read_i2c_block_data(0x68, 0x19, 4) == [9, 3, 0x10, 0x10]
        assert smbus.read_word_data(0x68, 0x63) == 0x1234


@pytest.mark.parametrize("has_transfers", [True, False], ids=["one transaction", "SMBus only: two"])
def test_more_registers_than_an_smbus_block_holds(path: str, bus: EmulatedBus, has_transfers: bool) -> None:
    driver = SmbusBus(path)
    driver._has_transfers = has_transfers
    for register, value in ((0x19, 9), (0x38, 0x10), (0x39, 0)):
        driver.write_register(0x68, register, value)
    before = bus.transfers
    found = driver.read_registers(0x68, 0x19, 34)
    assert bus.transfers - before == (1 if has_transfers else 2)
    assert (len(found), found[0], found[0x38 - 0x19]) == (34, 9, 0x10)
    driver.close()


def test_burst_of_1008_bytes(path: str, chip: Mpu6050) -> None:
    fifo_overflow, attempts = 0x10, 100
    with SMBus(path) as smbus:
        for register, value in ((0x6B, 1), (0x1A, 3), (0x19, 4), (0x23, 0xF8), (0x6A, 0x40)):
            smbus.write_byte_data(0x68, register, value)
        for _ in range(attempts):  # a busy machine may sleep through the one sample that there is room for
            while chip.fifo_level < 1008:
                time.sleep(0.001)
            answer = i2c_msg.read(0x68, 1008)
            smbus.i2c_rdwr(i2c_msg.write(0x68, [0x74]), answer)
            if not smbus.read_byte_data(0x68, 0x3A) & fifo_overflow:
                break
            smbus.write_byte_data(0x68, 0x6A, 0x44)
    frames = np.frombuffer(bytes(answer), dtype=">i2").reshape(72, 7)
    assert set(frames[:, 2] | COUNT_MASK) == {16384 | COUNT_MASK}, "1 g at the ±2 g of a reset chip"
    assert set(np.diff([count_in(words) for words in frames[:, :3].tolist()]) % COUNTS) == {1}


@pytest.mark.parametrize(("argument", "number"), [(None, 121), (6.0, 6), (5.0, 5)])
def test_nack_is_the_errno_of_the_real_ioctl(path: str, bus: EmulatedBus, argument: float | None, number: int) -> None:
    bus.inject_now("nack", argument=argument)
    with SMBus(path) as smbus, pytest.raises(OSError) as caught:  # noqa: PT011  the errno is the point
        smbus.read_byte_data(0x68, 0x75)
    assert caught.value.errno == number


def test_an_empty_address_does_not_answer(path: str) -> None:
    with pytest.raises(ImuError, match=rf"no device at 0x69 on {path}"):
        open_imu(Sensor(bus=Path(path), address=0x69))


def test_what_is_no_i2c_ioctl_is_refused(path: str) -> None:
    with pytest.raises(ImuError, match="not an I2C bus"):
        SmbusBus(str(Path(path).parent))
    descriptor = os.open(path, os.O_RDWR)
    try:
        assert not os.isatty(descriptor)
    finally:
        os.close(descriptor)


def test_plain_read_and_write_are_messages_too(path: str) -> None:
    """Adafruit's PureIO talks this way."""
    import fcntl  # noqa: PLC0415

    with Path(path).open("r+b", buffering=0) as file:
        fcntl.ioctl(file, 0x0703, 0x68)
        file.write(b"\x75")
        assert file.read(1) == b"\x68"


def test_two_programs_keep_their_own_address(path: str) -> None:
    with SMBus(path) as first, SMBus(path) as second:
        assert first.read_byte_data(0x68, 0x75) == 0x68
        with pytest.raises(OSError, match="Remote I/O"):
            second.read_byte_data(0x50, 0x00)
        assert first.read_byte_data(0x68, 0x75) == 0x68


@pytest.mark.skipif(shutil.which("i2cdetect") is None, reason="no i2c-tools here: apt install i2c-tools")
def test_i2c_tools(bus: EmulatedBus) -> None:
    """They take numbers only, so the bus has to be in /dev."""
    if unavailable() or not os.access("/dev", os.W_OK):
        pytest.skip("no right to make /dev/i2c-N")
    number = next(number for number in range(71, 99) if not Path(f"/dev/i2c-{number}").exists())
    with FuseI2c(f"/dev/i2c-{number}", bus):
        scan = subprocess.run(["i2cdetect", "-y", "-r", str(number)], check=True, capture_output=True, text=True)
        found = subprocess.run(
            ["i2cget", "-y", str(number), "0x68", "0x75"], check=True, capture_output=True, text=True
        )
    assert [word for line in scan.stdout.splitlines()[1:] for word in line.split()[1:] if word != "--"] == ["68"]
    assert found.stdout.strip() == "0x68"
    assert not Path(f"/dev/i2c-{number}").exists()


def listen(imu: Imu, seconds: float) -> Run:
    """Take batches for a while, then close."""
    batches: list[SampleBatch] = []
    end_s = time.monotonic() + seconds
    for batch in imu.batches():
        batches.append(batch)
        if time.monotonic() > end_s:
            imu.close()
    return Run(batches, 0.0)


def test_eight_seconds_live_without_a_lost_sample(path: str) -> None:
    imu = open_imu(Sensor(bus=Path(path)))
    started_s, cpu_s = time.monotonic(), time.process_time()
    run = listen(imu, 8.0)
    cpu_s = time.process_time() - cpu_s
    assert run.lost == 0
    assert set(imu.counters().values()) == {0}
    assert len(run.counts) == pytest.approx(100 * (time.monotonic() - started_s), abs=30)
    assert len(run.batches) <= 12 * 8.2
    times = np.concatenate([batch.time_s for batch in run.batches])
    assert (np.diff(times) > 0).all()
    assert times[-1] == pytest.approx(time.monotonic(), abs=0.25), "CLOCK_MONOTONIC"
    assert cpu_s < 1.0, "driver and emulator together"


def test_sigterm_in_the_middle_of_a_burst(path: str, bus: EmulatedBus, chip: Mpu6050) -> None:
    """Signals every 3 ms, so that some meet a burst, which a slow bus makes long; one of them closes."""
    bus.bitrate_hz = 100_000.0
    imu = open_imu(Sensor(bus=Path(path)))
    signals = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals == 200:
            imu.close()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    try:
        batches = list(imu.batches())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert set(np.diff([count for batch in batches for count in sample_counts(batch)]) % COUNTS) == {1}
    assert set(imu.counters().values()) == {0}
    assert chip.peek(0x6B) == 0x40, "asleep"


def test_a_sensor_that_vanishes_and_returns(path: str, bus: EmulatedBus, chip: Mpu6050) -> None:
    imu = open_imu(Sensor(bus=Path(path)))

    def pull_and_plug() -> None:
        time.sleep(1.0)
        chip.power_cycle()
        bus.inject_now("nack", for_s=1.0)

    puller = threading.Thread(target=pull_and_plug)
    puller.start()
    run = listen(imu, 4.0)
    puller.join()
    assert run.gaps == 1
    assert run.batches[-1].segment == 1
    assert imu.counters()["reinit"] == 1
    assert len(run.counts) > 150


def test_a_bus_that_vanishes_and_returns(bus: EmulatedBus, tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    path = tmp_path / "i2c-1"
    first, second = FuseI2c(path, bus), FuseI2c(path, bus)
    first.mount()
    imu = open_imu(Sensor(bus=Path(path)))

    def pull_and_plug() -> None:
        time.sleep(0.7)
        first.close()
        time.sleep(0.7)
        second.mount()

    puller = threading.Thread(target=pull_and_plug)
    puller.start()
    try:
        run = listen(imu, 3.5)
    finally:
        puller.join()
        second.close()
    assert [batch.flags for batch in run.batches if len(batch.imu)].count(BatchFlag.GAP_BEFORE) == 1
    assert imu.counters()["reinit"] == 1
    assert not path.exists()


def test_a_stalled_program_overflows_the_fifo_and_says_so(path: str) -> None:
    imu = open_imu(Sensor(bus=Path(path)))
    stream = imu.batches()
    batches = [next(stream) for _ in range(5)]
    time.sleep(1.5)
    batches += [next(stream) for _ in range(5)]
    imu.close()
    run = Run(batches, 0.0)
    counters = imu.counters()
    assert (counters["fifo_overflow"], counters["fifo_reset"], run.gaps) == (1, 1, 1)
    assert counters["gap_samples"] == pytest.approx(run.lost, abs=2)
    assert run.lost > 140


def test_an_open_file_learns_that_the_bus_is_gone(bus: EmulatedBus, tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    mounted = FuseI2c(tmp_path / "i2c-1", bus)
    mounted.mount()
    opened = SmbusBus(str(tmp_path / "i2c-1"))
    mounted.close()
    with pytest.raises(OSError) as caught:  # noqa: PT011  the errno is the point
        opened.read_registers(0x68, 0x75)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    opened.close()
    opened.close()
    mounted.close()


def test_a_refused_bus_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(5):
        with pytest.raises(ImuError):
            SmbusBus(str(tmp_path / "file"))
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


@dataclass(frozen=True)
class Played:
    """How a command line of the emulator ended."""

    status: int
    output: str
    errors: str


READER = textwrap.dedent("""
    import sys
    from smbus2 import SMBus
    with SMBus(sys.argv[1]) as smbus:
        print(hex(smbus.read_byte_data(0x68, 0x75)))
    sys.exit(7)
""")


def play(tmp_path: Path, *options: str) -> Played:
    recording = tmp_path / "still.npz"
    still = np.tile(np.array([0, 0, 9.81, 0, 0, 0], dtype=np.float32), (200, 1))
    save_npz(recording, Recording("still", np.arange(200) / 100.0, still, 100.0))
    path = str(tmp_path / "i2c-9")
    emulate = [sys.executable, "-m", "emulator.fuse", "--path", path, "--recording", str(recording), *options]
    done = subprocess.run(
        [*emulate, "--", sys.executable, "-c", READER, path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return Played(done.returncode, done.stdout, done.stderr)


def test_command_line_runs_a_program_on_the_bus(tmp_path: Path) -> None:
    played = play(tmp_path)
    if "user namespace" in played.errors or "/dev/fuse" in played.errors:
        pytest.skip(played.errors)
    assert (played.status, played.output, played.errors) == (7, "0x68\n", "")
    assert not (tmp_path / "i2c-9").exists()


def test_command_line_injects_faults(tmp_path: Path) -> None:
    played = play(tmp_path, "--fault", "nack:0:60")
    if "user namespace" in played.errors or "/dev/fuse" in played.errors:
        pytest.skip(played.errors)
    assert played.status == 1
    assert "Remote I/O error" in played.errors


def test_command_line_explains_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.npz")
    assert main(["--path", str(tmp_path / "i2c-1"), "--recording", missing, "--", "true"]) == 2
    assert capsys.readouterr().err.startswith("emulator: ")
    assert capsys.readouterr().err.count("\n") <= 1


def test_a_place_that_cannot_be_made(bus: EmulatedBus) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    with pytest.raises(EmulatorError, match=r"cannot make /proc/i2c-1.*choose another path"):
        FuseI2c("/proc/i2c-1", bus).mount()
