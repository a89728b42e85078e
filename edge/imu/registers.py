"""Register fields and byte order: the only place in Footfall that shifts bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]
    Uint8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Field:
    """A run of bits inside one 8-bit register, named as the data sheet names it.

    address: 0..0xFF; mask: the field's bits in place, e.g. 0x18 for bits 4:3; bank: where a chip has several.
    """

    address: int
    mask: int
    bank: int = 0

    @property
    def shift(self) -> int:
        """Position of the field's lowest bit."""
        return (self.mask & -self.mask).bit_length() - 1

    def get(self, register: int) -> int:
        """Return the field's value from a whole register's value."""
        return (register & self.mask) >> self.shift

    def put(self, value: int, register: int = 0) -> int:
        """Return `register` with the field set to `value`; ValueError if the value does not fit the mask."""
        placed = value << self.shift
        if placed & ~self.mask:
            raise ValueError(f"{value:#x} does not fit mask {self.mask:#04x} of register {self.address:#04x}")
        return (register & ~self.mask) | placed


def combine(settings: Iterable[tuple[Field, int]]) -> dict[int, int]:
    """Whole register values, by address in order of first mention, from fields that may share a register."""
    registers: dict[int, int] = {}
    for field, value in settings:
        registers[field.address] = field.put(value, registers.get(field.address, 0))
    return registers


def signed(value: int, bits: int) -> int:
    """Read a number as two's complement of the given width: 0xFF of 8 bits is -1."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def bits_of(values: Uint8Array, field: Field) -> Uint8Array:
    """Return the field's value from each of an array of register values."""
    return (values & np.uint8(field.mask)) >> np.uint8(field.shift)


def runs(registers: Mapping[int, int]) -> list[tuple[int, bytes]]:
    """(first address, expected bytes) of each run of neighbouring registers, so that one burst reads each run."""
    blocks: list[tuple[int, bytearray]] = []
    for address in sorted(registers):
        if blocks and address == blocks[-1][0] + len(blocks[-1][1]):
            blocks[-1][1].append(registers[address])
        else:
            blocks.append((address, bytearray([registers[address]])))
    return [(address, bytes(values)) for address, values in blocks]


def unsigned_be(data: bytes) -> int:
    """Big-endian unsigned number (InvenSense, registers high byte first)."""
    return int.from_bytes(data, "big")


def unsigned_le(data: bytes) -> int:
    """Little-endian unsigned number (ST and Bosch, registers low byte first)."""
    return int.from_bytes(data, "little")


def int16_be(data: bytes, columns: int) -> Int16Array:
    """[n, columns] signed 16-bit words from big-endian bytes."""
    return np.frombuffer(data, dtype=">i2").astype(np.int16).reshape(-1, columns)


def int16_le(data: bytes, columns: int) -> Int16Array:
    """[n, columns] signed 16-bit words from little-endian bytes."""
    return np.frombuffer(data, dtype="<i2").astype(np.int16).reshape(-1, columns)
