"""What a configuration value may be: small parsers that know how to describe themselves.

A rule turns what YAML found into the value the program uses, or raises ValueError with a hint that may be empty.
It does no I/O; relative paths are resolved by edge.config, which knows where the value came from.
"""

# ruff: noqa: TRY004  every refusal is a ValueError, whatever was wrong
from __future__ import annotations

import math
import re
import reprlib
import socket
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


# Control characters, halves of surrogate pairs, line separators and non-characters: no name, path or topic needs them,
# MQTT forbids most of them, and a log line must stay one line.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what was found, what is allowed, and the likeliest remedy.

    Where nothing can be allowed, `allowed` is empty and `found` is the whole sentence. An empty path is the file.
    """

    path: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        """One line for people."""
        where = f"{self.path}: " if self.path else ""
        if not self.allowed:
            return f"{where}{self.found}" + (f"; {self.hint}" if self.hint else "")
        return f"{where}found {self.found}; allowed: {self.allowed}" + (f" ({self.hint})" if self.hint else "")


def shown(value: object, characters: int = 60) -> str:
    """Write a value as a message should: short, on one line, whatever it is."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, date):  # YAML makes one of 2001-01-01
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = characters
    try:
        text = short.repr(value)
    except ValueError:  # Python refuses to write integers of more than 4300 digits
        return "a very long number"
    return text if len(text) <= characters else f"{text[: characters - 3]}..."


def printable(text: object) -> str:
    """Return a text that somebody else wrote, such as a file name, with spaces for what could steer a terminal."""
    return _UNPRINTABLE.sub(" ", str(text))


def _printable(text: str) -> str:
    """Return the text; raise ValueError with a hint if it holds what cannot be printed."""
    if (found := _UNPRINTABLE.search(text)) is not None:
        raise ValueError(f"it holds the character U+{ord(found[0]):04X}")
    return text


class Rule(Protocol):
    """One key's allowed values."""

    @property
    def allowed(self) -> str:
        """What a person may write, as the end of "allowed: ..."."""

    @property
    def is_text(self) -> bool:
        """True where an environment variable is taken as it is, not read as YAML."""

    def __call__(self, value: object) -> object:
        """Return the value to use; raise ValueError (its text is a hint) when it is not allowed."""


@dataclass(frozen=True)
class Number:
    """A finite number in [minimum, maximum], kept as float."""

    minimum: float
    maximum: float
    is_text: bool = False

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def __call__(self, value: object) -> float:
        """Booleans are no numbers, though Python thinks so."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not self.minimum <= value <= self.maximum:  # before float(), which fails for 400 digits; false for nan
            raise ValueError
        return float(value)


@dataclass(frozen=True)
class Speed:
    """A factor of real time, or `max`, which is None: as fast as possible."""

    allowed: str = "a number from 0.01 to 1000, or max"
    is_text: bool = False

    def __call__(self, value: object) -> float | None:
        """Read `max` without regard to case."""
        if isinstance(value, str) and value.lower() == "max":
            return None
        return Number(0.01, 1000)(value)


@dataclass(frozen=True)
class Whole:
    """An integer in [minimum, maximum]."""

    minimum: int
    maximum: int
    is_text: bool = False

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def __call__(self, value: object) -> int:
        """Take integers only: 1883.0 is a slip worth a word."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    allowed: str = "true or false"
    is_text: bool = False

    def __call__(self, value: object) -> bool:
        """Take YAML's own booleans only."""
        if not isinstance(value, bool):
            raise ValueError
        return value


@dataclass(frozen=True)
class Text:
    """A printable string that matches `pattern` from end to end; `form` says so in words."""

    pattern: str
    form: str
    max_bytes: int = 256
    is_text: bool = True

    @property
    def allowed(self) -> str:
        """The form, in words."""
        return self.form

    def __call__(self, value: object) -> str:
        """Numbers that were meant as text get a hint to quote them."""
        if not isinstance(value, str):
            raise ValueError(f"as text: '{shown(value)}'" if isinstance(value, int | float) else "")
        if (size := len(_printable(value).encode())) > self.max_bytes:
            raise ValueError(f"it has {size} bytes, {self.max_bytes} are the most")
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError
        return value


@dataclass(frozen=True)
class Host:
    """A host name, an IPv4 address or an IPv6 address without brackets."""

    allowed: str = "a host name or an address"
    is_text: bool = True

    def __call__(self, value: object) -> str:
        """Point to mqtt.port where the port stands in the name, and out what belongs to a URL."""
        if isinstance(value, str) and "://" in value:
            raise ValueError("the host alone, without ://; the port goes under mqtt.port")
        host = Text(r"[^\s/@]+", self.allowed, max_bytes=253)(value)
        if ":" in host and not _is_ipv6(host):
            if re.fullmatch(r"(\[.+\]|[^:]+):\d+", host):
                raise ValueError("put the port under mqtt.port")
            raise ValueError("an IPv6 address without brackets" if _is_ipv6(host.strip("[]")) else "")
        return host


@dataclass(frozen=True)
class Hosts:
    """A list of brokers, each HOST or HOST:PORT ([address]:port for IPv6); kept as pairs, port None where not given."""

    most: int = 8
    is_text: bool = False

    @property
    def allowed(self) -> str:
        """The form, in words."""
        return f"a list of at most {self.most} times HOST or HOST:PORT"

    def __call__(self, value: object) -> tuple[tuple[str, int | None], ...]:
        """Say which entry is wrong."""
        if not isinstance(value, list) or len(value) > self.most:
            raise ValueError
        return tuple(self._one(entry) for entry in value)

    @staticmethod
    def _one(entry: object) -> tuple[str, int | None]:
        name, port = (entry, None) if not isinstance(entry, str) or _is_ipv6(entry) else _split_port(entry)
        try:
            return str(Host()(name)), None if port is None else Whole(1, 65535)(port)
        except ValueError as error:
            raise ValueError(f"{shown(entry)}: {error}" if str(error) else shown(entry)) from None


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    is_text: bool = True

    @property
    def allowed(self) -> str:
        """All the words."""
        return ", ".join(self.words)

    def __call__(self, value: object) -> str:
        """Words are taken as written, without regard to case."""
        if not isinstance(value, str) or value.lower() not in self.words:
            raise ValueError
        return value.lower()


@dataclass(frozen=True)
class FilePath:
    """A path; relative ones are resolved later. must_exist: edge.config looks whether the file can be read."""

    must_exist: bool = False
    allowed: str = "a path"
    is_text: bool = True

    def __call__(self, value: object) -> Path:
        """Expand a leading ~."""
        if not isinstance(value, str) or not value:
            raise ValueError
        path = Path(_printable(value))
        try:
            return path.expanduser()
        except RuntimeError:
            raise ValueError(f"there is no user {path.parts[0].removeprefix('~')!r}") from None


@dataclass(frozen=True)
class Bus:
    """An I2C bus: its number, or the path of its device node."""

    allowed: str = "a bus number from 0 to 255 (1 is /dev/i2c-1) or a path such as /dev/i2c-1"
    is_text: bool = False

    def __call__(self, value: object) -> int | Path:
        """Keep a number, make a path of text with a slash in it."""
        if isinstance(value, str):
            if "/" not in value:
                raise ValueError(f"/dev/{value}" if re.fullmatch(r"i2c-\d+", value) else "")
            return FilePath()(value)
        return Whole(0, 255)(value)


@dataclass(frozen=True)
class Address:
    """A 7-bit I2C address out of those that the supported chips can have."""

    addresses: tuple[int, ...]
    is_text: bool = False

    @property
    def allowed(self) -> str:
        """The addresses as data sheets print them."""
        return " or ".join(f"0x{address:02x}" for address in self.addresses)

    def __call__(self, value: object) -> int:
        """Hint at 0x where a decimal number looks like one of the addresses."""
        if isinstance(value, str) and value.lower() in {f"0x{known:x}" for known in self.addresses}:
            raise ValueError("without quotes")
        if isinstance(value, bool) or not isinstance(value, int) or value not in self.addresses:
            meant = [f"0x{known:x}" for known in self.addresses if str(value).lower() == f"{known:x}"]
            raise ValueError(*meant)
        return value

    @staticmethod
    def shown(value: object) -> str:
        """Write a number in both ways: YAML turned 0x70 into 112."""
        in_hex = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**32
        return f"{value} ({value:#04x})" if in_hex else shown(value)


@dataclass(frozen=True)
class Rotation:
    """A 3 x 3 rotation: v_device = matrix @ v_sensor. Rows orthonormal, determinant +1 (a mirror is none)."""

    tolerance: float = 2e-3  # so that 0.707 passes for the square root of one half
    allowed: str = "three rows of three numbers that form a rotation (orthonormal, determinant +1)"
    is_text: bool = False

    def __call__(self, value: object) -> Matrix:
        """Say which of the conditions fails."""
        a, b, c = self._rows(value)
        for name, product, wanted in (
            ("row 1 has length", math.hypot(*a), 1.0),
            ("row 2 has length", math.hypot(*b), 1.0),
            ("row 3 has length", math.hypot(*c), 1.0),
            ("rows 1 and 2 have the product", _dot(a, b), 0.0),
            ("rows 1 and 3 have the product", _dot(a, c), 0.0),
            ("rows 2 and 3 have the product", _dot(b, c), 0.0),
            ("the determinant is", _dot(a, _cross(b, c)), 1.0),
        ):
            if not abs(product - wanted) <= self.tolerance:
                raise ValueError(f"{name} {product:.3g}, not {wanted:g}")
        return (a, b, c)

    @staticmethod
    def _rows(value: object) -> Matrix:
        number = Number(-1.001, 1.001)
        if not isinstance(value, list) or len(value) != 3:
            raise ValueError("three rows")
        rows = []
        for row in value:
            if not isinstance(row, list) or len(row) != 3:
                raise ValueError("three numbers in each row")
            rows.append((number(row[0]), number(row[1]), number(row[2])))
        return (rows[0], rows[1], rows[2])


@dataclass(frozen=True)
class Optional:
    """Null, which means what `absent` says, or whatever `rule` allows."""

    rule: Rule
    absent: str

    @property
    def allowed(self) -> str:
        """The inner rule, and what null means."""
        return f"{self.rule.allowed}, or null ({self.absent})"

    @property
    def is_text(self) -> bool:
        """As the inner rule."""
        return self.rule.is_text

    def __call__(self, value: object) -> object:
        """Null passes."""
        return None if value is None else self.rule(value)


def _split_port(text: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?|([^:]*):(\d{1,5})", text)
    if found is None:
        return text, None
    port = found[2] or found[4]
    return found[1] or found[3] or "", None if port is None else int(port)


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except OSError:
        return False
    return True


def _dot(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float, float]:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
