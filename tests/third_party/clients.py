"""Read an emulated chip with somebody else's driver; runs in the environment that holds those drivers.

    python clients.py CLIENT BUS_PATH

prints one line of JSON: acceleration (m/s²), gyro (rad/s), temperature (°C, null if the driver has none) and, where the
driver reads a step counter, steps before and after WALK_S.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
import types
from typing import Any

import smbus2

GRAVITY = 9.80665
SETTLE_S = 0.3
WALK_S = 5.0
"""How long to walk: the step counter is read before and after."""

Reading = dict[str, Any]


class I2c:
    """CircuitPython's busio.I2C, as far as adafruit_bus_device uses it, over a Linux bus."""

    def __init__(self, path: str) -> None:
        self._bus = smbus2.SMBus(path)

    def try_lock(self) -> bool:
        """There is only one user."""
        return True

    def unlock(self) -> None:
        """Nothing to release."""

    def writeto(self, address: int, buffer: Any, *, start: int = 0, end: int | None = None) -> None:
        """Send a write message; an empty one, which asks whether the device is there, as a read of one byte."""
        data = bytes(buffer[start:end])
        message = smbus2.i2c_msg.write(address, data) if data else smbus2.i2c_msg.read(address, 1)
        self._bus.i2c_rdwr(message)

    def readfrom_into(self, address: int, buffer: Any, *, start: int = 0, end: int | None = None) -> None:
        """One read message."""
        span = range(*slice(start, end).indices(len(buffer)))
        message = smbus2.i2c_msg.read(address, len(span))
        self._bus.i2c_rdwr(message)
        buffer[start:end] = bytes(message)

    def writeto_then_readfrom(
        self,
        address: int,
        out: Any,
        into: Any,
        *,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Write and read with a repeated start between them."""
        span = range(*slice(in_start, in_end).indices(len(into)))
        write = smbus2.i2c_msg.write(address, bytes(out[out_start:out_end]))
        read = smbus2.i2c_msg.read(address, len(span))
        self._bus.i2c_rdwr(write, read)
        into[in_start:in_end] = bytes(read)


# The libraries import busio for their annotations; Blinka's own would want to know which board this is.
sys.modules["busio"] = types.SimpleNamespace(I2C=I2c, SPI=None)  # type: ignore[assignment]
sys.modules["digitalio"] = types.SimpleNamespace(DigitalInOut=None)  # type: ignore[assignment]


def of_adafruit(sensor: Any) -> Reading:
    """All of Adafruit's drivers have the same three properties, in SI units."""
    time.sleep(SETTLE_S)
    return {
        "acceleration": list(sensor.acceleration),
        "gyro": list(sensor.gyro),
        "temperature": sensor.temperature,
    }


def adafruit_mpu6050(path: str) -> Reading:
    import adafruit_mpu6050 as library

    return of_adafruit(library.MPU6050(I2c(path)))


def adafruit_lsm6dsox(path: str) -> Reading:
    from adafruit_lsm6ds.lsm6dsox import LSM6DSOX

    return of_adafruit(LSM6DSOX(I2c(path)))


def adafruit_ism330dhcx(path: str) -> Reading:
    from adafruit_lsm6ds.ism330dhcx import ISM330DHCX

    return of_adafruit(ISM330DHCX(I2c(path)))


def adafruit_lsm6ds3trc(path: str) -> Reading:
    from adafruit_lsm6ds.lsm6ds3trc import LSM6DS3TRC

    sensor = LSM6DS3TRC(I2c(path))
    return of_adafruit(sensor)


def adafruit_lsm6ds3(path: str) -> Reading:
    # The library's LSM6DS3 is the TR-C (6Ah); the part with 69h it knows as LSM6DS33.
    from adafruit_lsm6ds.lsm6ds33 import LSM6DS33

    sensor = LSM6DS33(I2c(path))
    sensor.pedometer_enable = True
    time.sleep(SETTLE_S)
    before = sensor.pedometer_steps
    time.sleep(WALK_S)
    # No temperature: the library takes the TR-C's 256 steps a degree, an LSM6DS3 has 16.
    return {**of_adafruit(sensor), "temperature": None, "steps": sensor.pedometer_steps - before}


def adafruit_lsm9ds1(path: str) -> Reading:
    from adafruit_lsm9ds1 import LSM9DS1_I2C

    sensor = LSM9DS1_I2C(I2c(path), mag_address=0x1C, xg_address=0x6A)
    # No temperature: the library's own zero is 27.5 °C at 256/16 steps a degree, "guesses", as it says.
    return {**of_adafruit(sensor), "temperature": None, "magnetic_gauss": list(sensor.magnetic)}


def adafruit_icm20948(path: str) -> Reading:
    from adafruit_icm20x import ICM20948

    sensor = ICM20948(I2c(path), address=0x68)
    time.sleep(SETTLE_S)
    return {
        "acceleration": list(sensor.acceleration),
        "gyro": list(sensor.gyro),
        "temperature": None,
    }  # its magnetometer is behind slave 4 of the chip's I2C master, which is not emulated


def pimoroni_icm20948(path: str) -> Reading:
    from icm20948 import ICM20948

    sensor = ICM20948(i2c_addr=0x68, i2c_bus=smbus2.SMBus(path))
    time.sleep(SETTLE_S)
    values = sensor.read_accelerometer_gyro_data()
    return {
        "acceleration": [value * GRAVITY for value in values[:3]],
        "gyro": [math.radians(value) for value in values[3:]],
        "temperature": sensor.read_temperature(),
        "magnetic_ut": sensor.read_magnetometer_data(),
    }


def mpu6050_raspberrypi(path: str) -> Reading:
    sys.modules["smbus"] = smbus2  # the same interface
    from mpu6050 import mpu6050

    sensor = mpu6050(0x68, bus=path)
    time.sleep(SETTLE_S)
    acceleration, gyro = sensor.get_accel_data(), sensor.get_gyro_data()
    return {
        "acceleration": [acceleration[axis] for axis in "xyz"],
        "gyro": [math.radians(gyro[axis]) for axis in "xyz"],
        "temperature": sensor.get_temp(),
    }


def mpu9250_jmdev(path: str) -> Reading:
    from mpu9250_jmdev.mpu_9250 import MPU9250
    from mpu9250_jmdev.registers import AFS_8G, GFS_1000

    sensor = MPU9250(bus=path, gfs=GFS_1000, afs=AFS_8G)
    sensor.configureMPU6500(sensor.gfs, sensor.afs)  # the magnetometer is not emulated
    time.sleep(SETTLE_S)
    return {
        "acceleration": [value * GRAVITY for value in sensor.readAccelerometerMaster()],
        "gyro": [math.radians(value) for value in sensor.readGyroscopeMaster()],
        "temperature": sensor.readTemperatureMaster(),
    }


def bmi160_i2c(path: str) -> Reading:
    from BMI160_i2c import Driver

    sensor = Driver(0x68, path)
    sensor.setStepCountEnabled(True)
    time.sleep(SETTLE_S)
    before = sensor.getStepCount()
    time.sleep(WALK_S)
    gx, gy, gz, ax, ay, az = sensor.getMotion6()
    return {
        "acceleration": [value / 16384 * GRAVITY for value in (ax, ay, az)],  # it sets ±2 g and ±250 °/s
        "gyro": [math.radians(value / 131.2) for value in (gx, gy, gz)],
        "temperature": sensor.getTemperature(),
        "steps": sensor.getStepCount() - before,
    }


def bmi270(path: str) -> Reading:
    import bmi270.BMI270 as library

    library.I2C_BUS = path  # it knows only bus 1
    with contextlib.redirect_stdout(sys.stderr):  # it talks
        sensor = library.BMI270(0x68)
        sensor.load_config_file()
        sensor.set_mode("performance")
        sensor.set_acc_range(library.ACC_RANGE_4G)
        sensor.set_gyr_range(library.GYR_RANGE_500)
    time.sleep(SETTLE_S)
    return {
        "acceleration": list(sensor.get_acc_data()),
        "gyro": list(sensor.get_gyr_data()),
        "temperature": sensor.get_temp_data(),
    }


def lsm6ds3(path: str) -> Reading:
    from lsm6ds3 import LSM6DS3

    sensor = LSM6DS3(smbus2.SMBus(path))
    time.sleep(SETTLE_S)
    before = sensor.get_step_count()
    time.sleep(WALK_S)
    values = sensor.get_readings()
    return {
        "acceleration": [value * 0.061e-3 * GRAVITY for value in values[:3]],  # it leaves ±2 g and ±250 °/s
        "gyro": [math.radians(value * 8.75e-3) for value in values[3:]],
        "temperature": None,
        "steps": sensor.get_step_count() - before,
    }


def main() -> None:
    """Read once, print once."""
    name, path = sys.argv[1:]
    print(json.dumps(globals()[name](path)))


if __name__ == "__main__":
    main()
