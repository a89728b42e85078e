"""A recording that grows on the disk while it is made, and is complete whenever the power goes.

Samples are appended to `NAME.part.csv` or `NAME.part.csv.gz` beside the target. Each block of a `.csv.gz` is a gzip
member of its own, so that everything before the last block can be read whatever happens then. In the end the file is
renamed to its name; an `.npz` is made from it first, unless it has gaps, which an `.npz` cannot tell: then it stays a
`.csv.gz`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from edge import recording_csv
from edge.errors import UsageError
from edge.recording import SUFFIXES, Recording, recording_name, save_npz

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

PART = ".part"
MAX_NAME_BYTES = 200
"""File systems take 255, and the unfinished file has a longer name than the finished one."""


class RecordingWriter:
    """Appends samples, then gives the file its name.

    out: ends in .npz, .csv or .csv.gz. Raises UsageError at once for a name that cannot be written or is taken
    (unless force), OSError from append() when the disk is full: what was appended before is kept.
    """

    def __init__(self, out: Path, metadata: Mapping[str, str], *, force: bool = False) -> None:
        self.out = out
        self.samples = 0
        self.last_s = 0.0
        """Time of the last sample that is on the disk, s from the first."""
        self.npz_problem = ""
        """Why there is no .npz, where one was asked for."""
        self._force = force
        self._metadata = dict(metadata)
        check_target(out, force=force)
        self._is_gzip = not out.name.endswith(".csv")
        self._part = out.with_name(f"{recording_name(out)}{PART}.csv" + (".gz" if self._is_gzip else ""))
        try:
            self._file: BinaryIO = self._part.open("wb" if force else "xb")
        except FileExistsError:
            raise UsageError(
                f"{self._part}: an unfinished recording of that name is here; it can be played: rename or delete it"
            ) from None
        except OSError as error:
            raise UsageError(f"{self._part}: {error.strerror}; give OUT in a directory you may write to") from error
        self._good_bytes = 0
        lines = [f"# {key}: {' '.join(value.split())}" for key, value in self._metadata.items() if value]
        try:
            self._write("\n".join([*lines, ",".join(recording_csv.COLUMNS)]) + "\n")
        except OSError:
            self.discard()
            raise

    def append(self, time_s: npt.NDArray[np.float64], imu: npt.NDArray[np.float32]) -> None:
        """Add samples: time_s [n] s, imu [n, 6] m/s² and rad/s; on the file system when this returns."""
        text = io.StringIO()
        np.savetxt(text, np.column_stack([time_s, imu]), fmt=recording_csv.ROW_FORMAT)
        self._write(text.getvalue())
        self.samples += len(time_s)
        self.last_s = float(time_s[-1])

    def finish(self, notes: Mapping[str, str], *, sampling_rate_hz: float, has_gaps: bool) -> Path:
        """Give the recording its name and return that; notes: metadata known only now, kept by .npz alone."""
        self._sync()
        if not self.out.name.endswith(".npz"):
            return self._rename(self._part, self.out)
        if has_gaps:
            self.npz_problem = "an .npz keeps no gaps"
        elif self._convert(notes, sampling_rate_hz):
            self._part.unlink()
            return self.out
        return self._rename(self._part, self.fallback())

    def fallback(self) -> Path:
        """Where a recording goes that an .npz cannot hold; a name that is taken is left alone."""
        name = recording_name(self.out)
        candidates = [
            self.out.with_name(f"{name}{number}.csv.gz") for number in ("", *map("-{}".format, range(2, 100)))
        ]
        return next(one for one in candidates if self._force or not one.exists())

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        data = text.encode()
        data = gzip.compress(data, mtime=0) if self._is_gzip else data
        try:
            self._file.write(data)
            self._file.flush()
        except OSError:
            # Half a block would make the whole file unreadable.
            with contextlib.suppress(OSError):
                self._file.close()
            os.truncate(self._part, self._good_bytes)
            raise
        self._good_bytes += len(data)

    def _sync(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _convert(self, notes: Mapping[str, str], sampling_rate_hz: float) -> bool:
        """Write the .npz from the part file; False where the disk has no room for both."""
        table = recording_csv.read(self._part)
        count = len(table.time_s)
        recording = Recording(
            name=recording_name(self.out),
            time_s=np.arange(count) / sampling_rate_hz,
            imu=table.imu,
            sampling_rate_hz=sampling_rate_hz,
            metadata={key: value for key, value in (self._metadata | dict(notes)).items() if value},
        )
        new = self.out.with_name(f".{self.out.name}{PART}.npz")
        try:
            save_npz(new, recording)
            with new.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            self.npz_problem = f"it could not be written ({error.strerror or error})"
            new.unlink(missing_ok=True)
            return False
        self._rename(new, self.out)
        return True

    def _rename(self, source: Path, target: Path) -> Path:
        """Give a finished file its name, never over another that appeared meanwhile."""
        if not self._force:
            try:
                os.link(source, target)
            except FileExistsError:
                kept = target.with_name(f"{source.name}")
                raise UsageError(f"{target} has appeared meanwhile; the recording is kept as {kept}") from None
            except OSError:  # a file system without hard links, such as a USB stick's
                pass
            else:
                source.unlink()
                return target
        source.replace(target)
        return target


def check_target(out: Path, *, force: bool) -> None:
    """Raise UsageError unless a recording can be written to that name."""
    if not out.name.endswith(SUFFIXES) or out.name.endswith(".steps.csv"):
        raise UsageError(f"{out}: give OUT a name that ends in {', '.join(SUFFIXES)} (and not in .steps.csv)")
    if len(os.fsencode(out.name)) > MAX_NAME_BYTES:
        raise UsageError(f"OUT has a name of {len(os.fsencode(out.name))} bytes; allowed: {MAX_NAME_BYTES}")
    if out.is_dir():
        raise UsageError(f"{out}: is a directory; give OUT the name of a file")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: the directory {out.parent} does not exist; create it first")
    if os.path.lexists(out):
        if not force:
            raise UsageError(f"{out}: exists; give another name, or --force to replace it")
        if not out.is_file():
            raise UsageError(f"{out}: is no regular file; give OUT the name of a file")
