"""The table of identities against the documents, the drivers, and what else sits at those addresses."""

from __future__ import annotations

import pytest

from edge.doctor.identity import ADDRESSES, IDENTITIES, ask, identify, is_of_type, registers_at
from edge.imu.chips import FAMILIES


@pytest.mark.parametrize(
    ("address", "register", "value", "part"),
    [  # Literal numbers from the kernel's drivers and data sheets, not from the table.
        (0x68, 117, 0x68, "MPU-6050"), (0x69, 117, 0x70, "MPU-6500"), (0x68, 117, 0x71, "MPU-9250"),
        (0x68, 117, 0x73, "MPU-9255"), (0x68, 117, 0x47, "ICM-42688-P"), (0x69, 0, 0xEA, "ICM-20948"),
        (0x68, 0, 0xD1, "BMI160"), (0x69, 0, 0x24, "BMI270"), (0x6A, 15, 0x69, "LSM6DS3"),
        (0x6B, 15, 0x6C, "LSM6DSO, LSM6DSOX or LSM6DSO32"),
        (0x6A, 15, 0x6B, "ISM330DHCX or LSM6DSR"), (0x6A, 15, 0x68, "LSM9DS1"),
    ],
)  # fmt: skip
def test_a_part_is_known_by_its_identity(address: int, register: int, value: int, part: str) -> None:
    found = identify(address, [(register, value)])
    assert found is not None
    assert found.part == part


def test_the_same_number_at_another_vendors_address_is_another_chip() -> None:
    assert identify(0x6A, [(0x75, 0x68)]) is None
    assert identify(0x68, [(0x0F, 0x69)]) is None


def test_no_two_rows_claim_the_same_answer() -> None:
    keys = [(address, row.register, row.value) for row in IDENTITIES for address in row.addresses]
    assert len(keys) == len(set(keys))


def test_only_identity_registers_are_read() -> None:
    assert {register for address in ADDRESSES for register in registers_at(address)} == {0x75, 0x00, 0x0F}


def test_a_real_time_clock_at_0x68_is_no_bmi270() -> None:
    """A DS3231 counts seconds in register 0x00, in BCD."""
    now = [24.0]

    def read(_address: int, register: int) -> int:
        return int(f"{int(now[0]) % 60:02d}", 16) if register == 0 else 0

    def sleep(seconds: float) -> None:
        now[0] += seconds

    answer = ask(0x68, read, lambda: 0, sleep)
    assert answer.unsteady
    assert not ask(0x68, lambda _address, register: 0x24 if register == 0 else 0, lambda: 0, sleep).unsteady


def test_types_of_one_family_are_accepted_alike() -> None:
    mpu = identify(0x68, [(0x75, 0x68)])
    assert mpu is not None
    assert is_of_type(mpu, "auto")
    assert is_of_type(mpu, "mpu9250")
    assert not is_of_type(mpu, "bmi160")


def test_every_chip_that_a_driver_reads_is_known_to_doctor() -> None:
    """Two tables, written apart: each checks the other."""
    for family in FAMILIES:
        for part in family.parts:
            for value in part.who_am_i:
                for address in family.addresses:
                    found = identify(address, [(family.identity.address, value)])
                    assert found is not None, (part.name, hex(value))
                    assert any(is_of_type(found, name) for name in family.types), (part.name, found)
