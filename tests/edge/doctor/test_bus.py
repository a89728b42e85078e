"""Adapter and chip on the real FUSE bus with unmodified smbus2, each fault injected for real."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge import config
from edge.doctor import bus as doctor
from edge.doctor.finding import Context
from edge.doctor.identity import ask
from edge.imu.bus import SmbusBus
from edge.settings import Config, Sensor
from emulator import children
from emulator.bus import EmulatedBus, Fault
from emulator.chips import CHIPS
from emulator.fuse import FuseI2c
from emulator.inprocess import InProcessBus, VirtualTime
from emulator.mpu6050 import MPU_6500, Mpu6050
from emulator.namespace import unavailable
from tests.broker import wait_until
from tests.edge.doctor.clinic import footfall, visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.doctor.finding import Finding
    from emulator.bus import Device

pytestmark = pytest.mark.bus
AT_REST = np.array([[0.0, 0.0, 9.80665, 0.0, 0.0, 0.0]])


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Give a function that puts chips on a bus with faults, and returns the bus's path."""
    if reason := unavailable():
        pytest.skip(reason)
    mounted: list[FuseI2c] = []

    def put(chips: dict[int, Device], *faults: Fault) -> str:
        bus = EmulatedBus(chips)
        for fault in faults:
            bus.inject(fault)
        mounted.append(FuseI2c(tmp_path / f"i2c-{len(mounted)}", bus))
        mounted[-1].mount()
        return str(mounted[-1].path)

    yield put
    for one in mounted:
        one.close()


def chip(who_am_i: int | None = None) -> Mpu6050:
    return Mpu6050(AT_REST, 100.0, who_am_i=who_am_i)


def examine(path: str, root: Path = Path("/"), **sensor: str) -> tuple[list[Finding], Context]:
    environ = {f"FOOTFALL__SENSOR__{key.upper()}": value for key, value in sensor.items()}
    context = Context(config.load(None, environ | {"FOOTFALL__SENSOR__BUS": path}), root=root)
    return list(doctor.check(context)), context


def failure(findings: list[Finding]) -> Finding:
    (one,) = [one for one in findings if one.level == "fail"]
    assert one.advice, one
    return one


def test_a_good_sensor(mount: Callable[..., str]) -> None:
    path = mount({0x68: chip()})
    found, context = examine(path)
    assert {one.level for one in found} == {"ok"}
    assert f"MPU-6050 at 0x68 on {path} (WHO_AM_I 0x68)" in [one.text for one in found]
    assert context.sensor_ready


@pytest.mark.parametrize("name", sorted(CHIPS))
def test_every_emulated_chip_is_named_and_can_be_measured(mount: Callable[..., str], name: str) -> None:
    part = CHIPS[name]
    found, context = examine(mount(part.devices(part.make(AT_REST, 100.0))))
    assert {one.level for one in found} == {"ok"}, found
    assert part.title in found[-1].text
    assert context.sensor_ready


def test_a_scan_only_reads_and_changes_no_register(mount: Callable[..., str]) -> None:
    sensor = chip()
    path = mount({0x68: sensor})
    before = [sensor.peek(register) for register in range(128)]
    doctor.scan(path)
    assert [sensor.peek(register) for register in range(128)] == before
    assert before[0x6B] == 0x40, "still asleep, as after power-on"


def test_a_scan_takes_nothing_from_a_running_fifo(mount: Callable[..., str]) -> None:
    sensor = chip()
    path = mount({0x68: sensor})
    bus = SmbusBus(path)
    try:
        # 4 samples a second: the FIFO is full after 18 s only, however busy this machine is.
        for register, value in ((0x6B, 1), (0x1A, 3), (0x19, 255), (0x23, 0xF8), (0x6A, 0x40)):
            bus.write_register(0x68, register, value)
        wait_until(lambda: sensor.fifo_level >= 28, what="two frames")
        before = sensor.fifo_level
        doctor.scan(path)
        assert sensor.fifo_level >= before
        assert sensor.fifo_level == 14 * sensor.samples_queued
        assert sensor.bytes_dropped == 0
    finally:
        bus.close()


@pytest.mark.parametrize("number", [121, 6, 5])
def test_nothing_answers(mount: Callable[..., str], number: int) -> None:
    found, context = examine(mount({0x68: chip()}, Fault("nack", argument=number)))
    one = failure(found)
    assert "nothing answers" in one.text
    assert "0x68, 0x69, 0x6a, 0x6b" in one.text
    assert "SDA to pin 3" in one.advice
    assert "1.8 V part" in one.advice
    assert not context.sensor_ready


def test_a_stuck_bus(mount: Callable[..., str]) -> None:
    found, _ = examine(mount({0x68: chip()}, Fault("stuck")))
    stuck = [one for one in found if one.level == "fail"]
    assert stuck
    assert all("is stuck (ETIMEDOUT)" in one.text for one in stuck)
    assert all("SDA or SCL is held low" in one.advice + one.text for one in stuck)


def test_lost_arbitration(mount: Callable[..., str]) -> None:
    found, _ = examine(mount({0x68: chip()}, Fault("again")))
    assert any("is stuck (EAGAIN)" in one.text for one in found)


def test_a_kernel_driver_that_holds_the_address(mount: Callable[..., str]) -> None:
    found, _ = examine(mount({0x68: chip()}, Fault("busy")))
    busy = [one for one in found if one.level == "fail"]
    assert "a kernel driver holds 0x68" in busy[0].text
    assert "dtoverlay" in busy[0].advice
    assert "unbind" in busy[0].advice


def test_an_unknown_identity(mount: Callable[..., str]) -> None:
    found, context = examine(mount({0x68: chip(0x3C)}))
    one = failure(found)
    assert "unknown identity (register 0x75 = 0x3c" in one.text
    assert "sensor.accept_unknown_id" in one.advice
    assert not context.sensor_ready


def test_an_unknown_identity_that_the_user_accepts(mount: Callable[..., str]) -> None:
    found, context = examine(mount({0x68: chip(0x3C)}), accept_unknown_id="true")
    assert [one.level for one in found].count("warn") == 1
    assert context.sensor_ready


def test_a_clone_by_its_name(mount: Callable[..., str]) -> None:
    found, context = examine(mount({0x68: chip(0x98)}))
    assert any("clone of the MPU-6050" in one.text and one.level == "ok" for one in found)
    assert context.sensor_ready


def test_a_known_chip_without_a_driver(mount: Callable[..., str]) -> None:
    one = failure(examine(mount({0x68: chip(0xAF)}))[0])
    assert "ICM-20608 at 0x68" in one.text
    assert "does not read" in one.text


@pytest.mark.parametrize(("byte", "level"), [(0x00, "low"), (0xFF, "high")])
def test_a_data_line_that_is_stuck(mount: Callable[..., str], byte: int, level: str) -> None:
    found, _ = examine(mount({0x68: chip()}, Fault("fill", argument=byte)))
    one = failure(found)
    assert f"every identity reads {byte:#04x}: the data line stays {level}" in one.text
    assert "level shifter" in one.advice


def test_a_bad_line(mount: Callable[..., str]) -> None:
    found, _ = examine(mount({0x68: chip()}, Fault("garbage", start_s=0.0)))
    one = failure(found)
    assert "different identities" in one.text
    assert "shorten the wires" in one.advice


def test_a_line_that_loses_some_transfers() -> None:
    """In virtual time: on a busy machine a retry may come too late to count as one."""
    time = VirtualTime()
    emulated = EmulatedBus({0x68: chip()}, clock=time.now, sleep=time.sleep)
    emulated.inject(Fault("nack", times=2))
    bus = InProcessBus(emulated)
    answer = ask(0x68, lambda at, register: bus.read_registers(at, register)[0], lambda: bus.retries)
    assert answer.retries == 2
    (_, repeated) = doctor._answer(answer, bus.name, Sensor(), Context(Config()))
    assert repeated.level == "warn"
    assert "2 of 27 reads of 0x68 on /dev/i2c-1 had to be repeated" in repeated.text


def test_the_wrong_address(mount: Callable[..., str]) -> None:
    found, context = examine(mount({0x69: chip()}), address="0x68")
    one = failure(found)
    assert "sensor.address is 0x68, but the sensor answers at 0x69" in one.text
    assert "AD0" in one.advice
    assert not context.sensor_ready


def test_two_sensors(mount: Callable[..., str]) -> None:
    path = mount({0x68: chip(), 0x69: Mpu6050(AT_REST, 100.0, silicon=MPU_6500)})
    found, _ = examine(path)
    (one,) = [one for one in found if one.level == "warn"]
    assert "2 sensors answer (0x68, 0x69); the one at 0x68 is used" in one.text
    assert {one.level for one in examine(path, address="0x69")[0]} == {"ok"}


def test_the_type_in_the_config_is_another(mount: Callable[..., str]) -> None:
    one = failure(examine(mount({0x68: chip()}), type="bmi160")[0])
    assert "sensor.type is bmi160" in one.text


def test_no_bus(tmp_path: Path) -> None:
    assert "no I2C bus" in failure(examine(str(tmp_path / "none"))[0]).text


def test_something_that_is_no_bus(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("", encoding="ascii")
    assert "is not an I2C bus" in failure(examine(str(path))[0]).text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_the_right(tmp_path: Path) -> None:
    """`nobody`, on a node that belongs to root."""
    examine(str(tmp_path / "none"))  # imports what it needs, which nobody else may read
    node = tmp_path / "i2c-1"
    node.write_text("", encoding="ascii")
    node.chmod(0o600)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        found, _ = examine(str(node))
    finally:
        os.seteuid(0)
    one = failure(found)
    assert "may not open" in one.text
    assert "belongs to root alone" in one.advice


@pytest.mark.parametrize("kind", ["nack", "timeout"])
def test_the_whole_report_in_bounded_time_whatever_the_bus_does(
    mount: Callable[..., str], tmp_path: Path, kind: str
) -> None:
    path = mount({0x68: chip()}, Fault(kind))
    found = visit(tmp_path, sensor={"bus": path}, mqtt={"host": "127.0.0.1", "port": 1}, seconds=1.0)
    assert found.of("bus", "fail")
    assert not found.of("sensor"), "there is nothing to measure"
    assert found.of("clock"), "the checks after it ran"


def test_a_running_daemon_keeps_its_sensor(mount: Callable[..., str], tmp_path: Path) -> None:
    """Doctor sees the daemon, names it, leaves the sensor alone, and the daemon loses nothing."""
    sensor = Mpu6050(AT_REST, 100.0)
    path = mount({0x68: sensor})
    settings = {"FOOTFALL__SENSOR__BUS": path, "FOOTFALL__OUTBOX__PATH": str(tmp_path / "outbox.db")}
    config_file = tmp_path / "daemon.yaml"
    config_file.write_text(
        f"sensor: {{bus: {path}}}\nmqtt: {{host: 127.0.0.1, port: 1}}\noutbox: {{path: {tmp_path}/outbox.db}}\n",
        encoding="utf-8",
    )
    with (tmp_path / "daemon.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "edge", "run", "--config", str(config_file)]
        daemon = children.start(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: sensor.samples_queued > 100, what="the daemon reads", timeout_s=60.0)
        found = visit(tmp_path, sensor={"bus": path}, mqtt={"host": "127.0.0.1", "port": 1}, seconds=2.0)
        assert f"the Footfall daemon (process {daemon.pid}) reads the sensor" in found.texts("bus", "ok")
        assert "not measured: the daemon reads the sensor" in found.the("bus", "warn")["text"]
        assert not found.of("sensor")
        assert not found.of("disk", "fail")
        refused = footfall("record", tmp_path / "x.csv", "--seconds", "1", **settings)
        assert refused.returncode == 2
        assert f"the Footfall daemon (process {daemon.pid}) reads this sensor" in refused.stderr
        assert not (tmp_path / "x.csv").exists()
    finally:
        status = children.stop(daemon)
    log_text = (tmp_path / "daemon.log").read_text(encoding="utf-8")
    assert status == 0, log_text
    assert "connecting again" not in log_text
    assert "reset" not in log_text


def test_another_program_on_the_bus_is_named(mount: Callable[..., str]) -> None:
    path = mount({0x68: chip()})
    node = os.open(path, os.O_RDONLY)
    try:
        other = subprocess.Popen(["sleep", "60"], stdin=node)
    finally:
        os.close(node)
    try:
        found, _ = examine(path)
    finally:
        other.kill()
        other.wait()
    (one,) = [one for one in found if one.level == "warn"]
    assert f"process {other.pid}: sleep 60" in one.text


def tree(root: Path, *, address: int = 0x68, clock_hz: int = 100_000) -> Path:
    """Make a /sys as a Raspberry Pi with a bound kernel driver shows it."""
    adapter = root / "sys/class/i2c-adapter/i2c-1"
    (adapter / "of_node").mkdir(parents=True)
    (adapter / "name").write_text("bcm2835 (i2c@7e804000)\n", encoding="ascii")
    (adapter / "of_node/clock-frequency").write_bytes(clock_hz.to_bytes(4, "big"))
    client = root / f"sys/bus/i2c/devices/1-{address:04x}"
    client.mkdir(parents=True)
    (client / "name").write_text("mpu6050\n", encoding="ascii")
    driver = root / "sys/bus/i2c/drivers/inv-mpu6050-i2c"
    driver.mkdir(parents=True)
    (client / "driver").symlink_to(driver)
    return root


def test_the_kernel_driver_has_a_name_in_sysfs(tmp_path: Path) -> None:
    from edge.doctor import adapter  # noqa: PLC0415

    root = tree(tmp_path)
    assert adapter.kernel_client("/dev/i2c-1", 0x68, root) == ("mpu6050", "inv-mpu6050-i2c")
    assert adapter.kernel_client("/dev/i2c-1", 0x69, root) == (None, None)
    assert adapter.describe("/dev/i2c-1", root) == " (bcm2835 (i2c@7e804000))"


@pytest.mark.parametrize(("clock_hz", "level"), [(400_000, "ok"), (100_000, "ok"), (10_000, "warn")])
def test_the_bus_clock_of_the_device_tree(tmp_path: Path, clock_hz: int, level: str) -> None:
    from edge.doctor import adapter  # noqa: PLC0415

    (one,) = adapter.speed("/dev/i2c-1", 100.0, tree(tmp_path, clock_hz=clock_hz))
    assert one.level == level
    assert f"bus clock {clock_hz // 1000} kHz" in one.text
    assert not list(adapter.speed("/dev/i2c-7", 100.0, tmp_path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "raspi-config nonint do_i2c 0"),
        ({"boot/firmware/config.txt": "#dtparam=i2c_arm=on\n"}, "raspi-config nonint do_i2c 0"),
        ({"boot/firmware/config.txt": "dtparam=i2c_arm=on\n"}, "sudo modprobe i2c-dev"),
        ({"boot/config.txt": "arm_64bit=1\ndtparam=i2c_arm=on\n"}, "sudo modprobe i2c-dev"),
        ({"sys/class/i2c-adapter/i2c-1/name": "bcm2835"}, "sudo modprobe i2c-dev"),
        ({"dev/i2c-0": "", "dev/i2c-20": ""}, "set sensor.bus to the one the sensor is on"),
    ],
)
def test_what_to_do_about_a_missing_bus(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    one = failure(examine("/dev/i2c-97", root=tmp_path)[0])
    assert words in one.advice


def test_every_errno_of_a_bus_has_an_advice(mount: Callable[..., str]) -> None:
    for number in (errno.EOPNOTSUPP, errno.EPROTO, errno.EINVAL):
        found, _ = examine(mount({0x68: chip()}, Fault("nack", argument=number)))
        assert all(one.advice for one in found if one.level == "fail")
        assert any(one.level == "fail" for one in found)
