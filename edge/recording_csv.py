"""CSV recordings: header `time_s,acc_x,…,gyr_z`, `# key: value` comments, labels in a sibling `NAME.steps.csv`."""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

import numpy as np

from edge.errors import RecordingError
from edge.recording_checks import MAX_SAMPLES, brief
from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

COLUMNS = ("time_s", *IMU_CHANNELS)
MAX_LINE_CHARACTERS = 1_000_000
"""Longer than any list of label intervals; a few kilobytes of .gz can unpack to a line of gigabytes."""

_STEP = np.dtype([("time_s", np.float64)])  # a record, so that numpy insists on one column
_ROW = np.dtype([("time_s", np.float64), ("imu", np.float32, (len(IMU_CHANNELS),))])
ROW_FORMAT = ",".join(["%.6f"] + ["%.9g"] * len(IMU_CHANNELS))  # nine digits bring a float32 back exactly


@dataclass(frozen=True, slots=True, eq=False)
class CsvTable:
    """What a CSV recording says: time_s [N] float64 as written, imu [N, 6] float32, metadata from its `#` lines."""

    path: Path
    time_s: npt.NDArray[np.float64]
    imu: npt.NDArray[np.float32]
    metadata: Mapping[str, str]

    def locate(self, sample: int) -> str:
        """Line of the file (counted from 1, as editors do) that holds a sample."""
        with _open(self.path) as file:
            for index, (line, _) in enumerate(_rows(self.path, file)):
                if index == sample + 1:  # row 0 is the header
                    return f"line {line}"
        return f"sample {sample}"


def labels_path(path: Path) -> Path:
    """Where the step labels of a recording are: `walk.csv` and `walk.csv.gz` have `walk.steps.csv`."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".csv") + ".steps.csv")


def read(path: Path) -> CsvTable:
    """Read header, comments and numbers; raise RecordingError with line and column where they are not as agreed."""
    with _open(path) as file:
        metadata = _read_head(path, file, COLUMNS)
        rows = _read_numbers(path, file, _ROW, COLUMNS)
    return CsvTable(path, np.ascontiguousarray(rows["time_s"]), np.ascontiguousarray(rows["imu"]), metadata)


def read_steps(path: Path) -> npt.NDArray[np.float64] | None:
    """Step times in s from a label file, None if there is no such file."""
    if not os.path.lexists(path):
        return None
    with _open(path) as file:
        _read_head(path, file, ("time_s",))
        return np.ascontiguousarray(_read_numbers(path, file, _STEP, ("time_s",))["time_s"])


def write_steps(path: Path, steps: npt.NDArray[np.float64]) -> None:
    """Write a label file."""
    with path.open("w", encoding="utf-8") as file:
        np.savetxt(file, steps, fmt="%.6f", header="time_s", comments="")


class CsvWriter:
    """Writes a recording block by block, so that an interrupted one keeps what it has."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._file = _open(path, "wt")
        for key, value in metadata.items():
            self._file.write(f"# {key}: {' '.join(value.split())}\n")
        self._file.write(",".join(COLUMNS) + "\n")

    def append(self, time_s: npt.NDArray[np.float64], imu: npt.NDArray[np.float32]) -> None:
        """Add samples: time_s [n] s, imu [n, 6] m/s² and rad/s."""
        np.savetxt(self._file, np.column_stack([time_s, imu]), fmt=ROW_FORMAT)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path, mode: str = "rt") -> TextIO:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        # A byte that is not UTF-8 becomes a visible character, and then a cell that is reported by line and column.
        encoding, errors = ("utf-8-sig", "replace") if mode == "rt" else ("utf-8", "strict")
        return cast("TextIO", opener(path, mode, encoding=encoding, errors=errors))
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from error


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Every line; RecordingError where one is too long, or all of them are too many, for a recording."""
    for _ in range(2 * MAX_SAMPLES):
        line = file.readline(MAX_LINE_CHARACTERS)
        if len(line) == MAX_LINE_CHARACTERS:
            raise RecordingError(f"{path}: a line has more than {MAX_LINE_CHARACTERS} characters; this is no recording")
        if not line:
            return
        yield line
    raise RecordingError(f"{path}: more than {MAX_SAMPLES} samples; split the recording")


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    """(line number, text) of everything that is neither blank nor a comment."""
    for number, line in enumerate(_lines(path, file), start=1):
        text = line.partition("#")[0].strip()
        if text:
            yield number, text


def _read_head(path: Path, file: TextIO, columns: tuple[str, ...]) -> dict[str, str]:
    """Metadata of the comments before the header; the file is left at the first row of numbers."""
    metadata: dict[str, str] = {}
    try:
        for line in _lines(path, file):
            text = line.strip()
            if text.startswith("#"):
                key, separator, value = text[1:].partition(":")
                metadata |= {key.strip(): value.strip()} if separator else {}
            elif text:
                _check_header(path, tuple(cell.strip().strip('"') for cell in text.split(",")), columns)
                return metadata
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    raise RecordingError(f"{path}: empty; the first row must be {','.join(columns)}")


def _check_header(path: Path, found: tuple[str, ...], columns: tuple[str, ...]) -> None:
    if found == columns:
        return
    missing = [name for name in columns if name not in found]
    unknown = [name for name in found if name not in columns]
    if missing and set(missing) <= set(IMU_CHANNELS[3:]) and not unknown:
        problem = f"{', '.join(missing)} missing; write nan in them if there is no gyroscope"
    elif not missing and not unknown:
        problem = "columns in another order"
    else:
        wrong = next(
            (i for i, pair in enumerate(zip(found, columns, strict=False)) if pair[0] != pair[1]), len(columns)
        )
        is_, should = (names[wrong] if wrong < len(names) else "" for names in (found, columns))
        problem = f"column {wrong + 1} is {is_[:40]!r}" + (f" instead of {should!r}" if should else "; delete it")
    raise RecordingError(f"{path}: header: {problem}; the first row must be {','.join(columns)}")


def _read_numbers(path: Path, file: TextIO, dtype: np.dtype[Any], columns: tuple[str, ...]) -> npt.NDArray[Any]:
    # numpy takes an empty line for none, but one of blanks for a row of one column.
    full = (line for line in _lines(path, file) if line.partition("#")[0].strip())
    lines = (line if ",," not in line and line[-2:-1] != "," else _fill(line) for line in full)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "input contained no data": the caller says it better
            rows = np.loadtxt(lines, dtype=dtype, delimiter=",", comments="#", ndmin=1)
    except RecordingError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    except MemoryError:
        raise RecordingError(f"{path}: does not fit into the memory; split the recording") from None
    except ValueError as error:
        raise _locate_bad_cell(path, columns, brief(error)) from error
    if len(rows) > MAX_SAMPLES:
        raise RecordingError(f"{path}: {len(rows)} samples, {MAX_SAMPLES} are the most; split the recording")
    return rows


def _fill(line: str) -> str:
    """Empty cells, as pandas writes a missing number, become nan."""
    return ",".join(cell.strip() or "nan" for cell in line.split(","))


def _locate_bad_cell(path: Path, columns: tuple[str, ...], fallback: str) -> RecordingError:
    try:
        with _open(path) as file:
            rows = _rows(path, file)
            next(rows)
            problem = next((found for row in rows if (found := _bad_cell(row, columns))), fallback)
            for _ in rows:  # only at its end does a .gz show that it is damaged, and then the cell is not to blame
                pass
    except (OSError, EOFError, zlib.error) as error:
        return _damaged(path, error)
    return RecordingError(f"{path}: {problem}")


def _bad_cell(row: tuple[int, str], columns: tuple[str, ...]) -> str | None:
    number, text = row
    cells = text.split(",")
    if len(cells) != len(columns):
        hint = "delete the line if the recording was cut off there"
        return f"line {number} has {len(cells)} cells, expected {len(columns)}; {hint}"
    for name, cell in zip(columns, cells, strict=True):
        if cell.strip() and not _is_number(cell):
            return f"line {number}, column {name}: {brief(cell.strip(), 40)!r} is not a number"
    return None


def _is_number(cell: str) -> bool:
    """As numpy sees it: Python also takes 1_000 and the digits of other scripts."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _damaged(path: Path, error: Exception) -> RecordingError:
    return RecordingError(f"{path}: not readable to its end ({brief(error)}); it may be cut off: copy it again")
