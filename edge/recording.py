"""Recordings: raw IMU data from a file, with step labels where it has them."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edge import recording_csv
from edge.errors import RecordingError
from edge.recording_checks import (
    MIN_SAMPLES,
    RATE_RANGE_HZ,
    brief,
    check_activity,
    check_intervals,
    check_names,
    check_samples,
    check_steps,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STEPS_KNOWN = ("all", "bouts", "zero", "quasi", "none", "count")
"""How far the step labels can be trusted; see Recording.steps_known."""

SUFFIXES = (".npz", ".csv", ".csv.gz")
_LABEL_SUFFIX = ".steps.csv"
_TEXT_KEYS = ("dataset", "subject", "placement")
_OWN_KEYS = {"imu", "fs", "steps", "steps_known", "label_intervals", "activity", "activity_names", *_TEXT_KEYS}
_SCALAR_KINDS = "fiubU"
_NUMPY_OWN_KEYS = {"file", "args", "kwds", "allow_pickle"}  # numpy.savez keeps these names for itself
_MAX_NPZ_BYTES = 2**31
_MAX_NAME_CHARACTERS = 80  # of a data set, subject or placement: they stand in tables


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A walk (or anything else) as a sensor saw it.

    time_s: [N] float64, from 0, strictly increasing. imu: [N, 6] float32 in m/s² and rad/s, NaN columns = no gyroscope.
    sampling_rate_hz: nominal. steps: [K] float64 s from the start, sorted, the instants at which a foot touched.
    steps_known: `all`, `bouts` (complete only inside label_intervals), `zero` (nobody walks), `quasi` (computed, not
    annotated: never score with it), `count` (only their number is right), `none` (steps is None).
    label_intervals: [M, 2] s, or None. activity: [N] codes into activity_names, or None.
    metadata: whatever else the file says about itself, as text.
    """

    name: str
    time_s: npt.NDArray[np.float64]
    imu: npt.NDArray[np.float32]
    sampling_rate_hz: float
    steps: npt.NDArray[np.float64] | None = None
    steps_known: str = "none"
    dataset: str = ""
    subject: str = ""
    placement: str = ""
    label_intervals: npt.NDArray[np.float64] | None = None
    activity: npt.NDArray[np.int64] | None = None
    activity_names: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    @property
    def duration_s(self) -> float:
        """Seconds from the first sample to one period after the last, to the nanosecond."""
        return round(float(self.time_s[-1]) + 1.0 / self.sampling_rate_hz, 9)

    def first(self, seconds: float) -> Recording:
        """Return the first so many seconds, with the labels that lie in them.

        Labels that make no sense for a part (`count`, or `bouts` of which none is left) are given up. Raises
        RecordingError if less than MIN_SAMPLES samples are left.
        """
        samples = int(np.searchsorted(self.time_s, seconds))
        if samples < min(MIN_SAMPLES, len(self.time_s)):
            raise RecordingError(f"{self.name}: {samples} samples in {seconds:g} s; at least {MIN_SAMPLES} are needed")
        intervals, steps, known = self.label_intervals, self.steps, self.steps_known
        if samples < len(self.time_s):
            steps = None if steps is None else steps[steps < seconds]
            if intervals is not None:
                intervals = np.minimum(intervals[intervals[:, 0] < seconds], seconds)
            if known == "count" or (known == "bouts" and (intervals is None or not len(intervals))):
                steps, known = None, "none"
        return replace(
            self,
            time_s=self.time_s[:samples],
            imu=self.imu[:samples],
            steps=steps,
            steps_known=known,
            label_intervals=intervals if intervals is not None and len(intervals) else None,
            activity=None if self.activity is None else self.activity[:samples],
        )


def load(path: str | Path) -> Recording:
    """Read an `.npz`, `.csv` or `.csv.gz` recording.

    Raises RecordingError, naming the place and the way out, for anything that is not a recording in SI units.
    """
    path = Path(path)
    status = _status(path)
    if path.name.endswith(_LABEL_SUFFIX):
        raise RecordingError(f"{path}: this is a label file; give the recording beside it")
    if not path.name.endswith(SUFFIXES):
        raise RecordingError(f"{path}: not a recording; allowed are files that end in {', '.join(SUFFIXES)}")
    if not stat.S_ISREG(status.st_mode):
        what = "is a directory" if stat.S_ISDIR(status.st_mode) else "is no regular file"
        raise RecordingError(f"{path}: {what}; give a file that ends in {', '.join(SUFFIXES)}")
    with np.errstate(all="ignore"):  # what is too large is refused by name, not by numpy's warning
        return _load_npz(path) if path.suffix == ".npz" else _load_csv(path)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Files as given, and every recording below each directory, sorted; label files are left out.

    Raises RecordingError for a path that does not exist and for a directory that cannot be read or holds no recording.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if not str(given):  # to Path it is the current directory
            raise RecordingError("'': no path; give recordings, or folders of them ('.' is this one)")
        is_directory = stat.S_ISDIR(_status(path).st_mode)
        inside = sorted(_below(path)) if is_directory else [path]
        if not inside:
            raise RecordingError(f"{path}: no recording in this directory; looked for *{', *'.join(SUFFIXES)}")
        found += inside
    return found


def save(path: str | Path, recording: Recording) -> Path:
    """Write a recording in the format that can hold it; return the path, which is the one given plus a suffix.

    `.npz` where the samples are evenly spaced, otherwise `.csv.gz`, which keeps no `activity`.
    """
    suffix = ".npz" if _is_even(recording) else ".csv.gz"
    target = Path(f"{path}{suffix}")
    (save_npz if suffix == ".npz" else save_csv)(target, recording)
    return target


def save_npz(path: str | Path, recording: Recording) -> None:
    """Write an `.npz`; it has no time column, so a recording with gaps or jitter belongs in a CSV.

    Raises RecordingError if the sample times are not i / sampling_rate_hz.
    """
    if not _is_even(recording):
        raise RecordingError(f"{path}: an .npz keeps no sample times and these are uneven; save a .csv instead")
    keys: dict[str, Any] = {f"{key}_" if key in _NUMPY_OWN_KEYS else key: v for key, v in recording.metadata.items()}
    keys |= {"imu": recording.imu, "fs": recording.sampling_rate_hz, "steps_known": recording.steps_known}
    keys |= {key: getattr(recording, key) for key in _TEXT_KEYS if getattr(recording, key)}
    optional = {"steps": recording.steps, "label_intervals": recording.label_intervals, "activity": recording.activity}
    keys |= {key: value for key, value in optional.items() if value is not None}
    if recording.activity_names:
        keys["activity_names"] = np.array(recording.activity_names)
    np.savez_compressed(path, **keys)


def save_csv(path: str | Path, recording: Recording) -> None:
    """Write a `.csv` or `.csv.gz`, and its labels beside it if it has any; `activity` is not kept."""
    path = Path(path)
    metadata = dict(recording.metadata) | {key: getattr(recording, key) for key in _TEXT_KEYS}
    metadata |= {"sampling_rate_hz": repr(recording.sampling_rate_hz), "steps_known": recording.steps_known}
    if recording.label_intervals is not None:
        metadata["label_intervals"] = json.dumps(recording.label_intervals.tolist())
    with recording_csv.CsvWriter(path, {key: value for key, value in metadata.items() if value}) as writer:
        writer.append(recording.time_s, recording.imu)
    if recording.steps is not None:
        recording_csv.write_steps(recording_csv.labels_path(path), recording.steps)


def recording_name(path: Path) -> str:
    """File name without any of the recording suffixes."""
    return next(path.name.removesuffix(suffix) for suffix in reversed(SUFFIXES) if path.name.endswith(suffix))


def _is_even(recording: Recording) -> bool:
    expected_s = np.arange(len(recording.imu)) / recording.sampling_rate_hz
    return bool(np.max(np.abs(recording.time_s - expected_s)) <= 0.5 / recording.sampling_rate_hz)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        reason = "no such file or directory" if isinstance(error, FileNotFoundError) else error.strerror
        raise RecordingError(f"{brief(path, 300)}: {reason}; check the path and its permissions") from error


def _below(directory: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise RecordingError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error

    for folder, _, names in os.walk(directory, onerror=refuse):
        for name in names:
            # os.path: a file that may not even be looked at is none, whatever the version of Python.
            if name.endswith(SUFFIXES) and not name.endswith(_LABEL_SUFFIX) and os.path.isfile(f"{folder}/{name}"):  # noqa: PTH113
                yield Path(folder, name)


def _load_npz(path: Path) -> Recording:
    arrays = _read_npz(path)
    rate_hz = _rate_hz(path, arrays["fs"])
    imu = _imu(path, arrays["imu"])
    time_s = np.arange(len(imu)) / rate_hz
    check_samples(path, time_s, imu, lambda sample: f"sample {sample}")
    if (known := arrays.get("steps_known")) is not None and (known.ndim or known.dtype.kind != "U"):
        found = f"{known.dtype} {list(known.shape)}"
        raise RecordingError(f"{path}: 'steps_known' is {found}; allowed is one text: {', '.join(STEPS_KNOWN)}")
    texts = {key: _text(value) for key, value in arrays.items() if not value.ndim and value.dtype.kind in _SCALAR_KINDS}
    return _recording(
        path,
        time_s=time_s,
        imu=imu,
        rate_hz=rate_hz,
        texts=texts,
        steps=arrays.get("steps"),
        label_intervals=arrays.get("label_intervals"),
        activity=check_activity(path, arrays.get("activity"), len(imu)),
        activity_names=check_names(path, arrays.get("activity_names")),
    )


def _load_csv(path: Path) -> Recording:
    table = recording_csv.read(path)
    check_samples(path, table.time_s, table.imu, table.locate)
    start_s = float(table.time_s[0])
    steps = recording_csv.read_steps(recording_csv.labels_path(path))
    intervals = table.metadata.get("label_intervals")
    return _recording(
        path,
        time_s=table.time_s - start_s,
        imu=table.imu,
        rate_hz=_csv_rate_hz(path, table),
        texts=table.metadata,
        steps=None if steps is None else steps - start_s,
        label_intervals=None if intervals is None else _csv_intervals(path, intervals),
    )


def _recording(
    path: Path,
    *,
    time_s: npt.NDArray[np.float64],
    imu: npt.NDArray[np.float32],
    rate_hz: float,
    texts: Mapping[str, str],
    steps: npt.NDArray[Any] | None,
    label_intervals: npt.NDArray[Any] | None,
    activity: npt.NDArray[np.int64] | None = None,
    activity_names: tuple[str, ...] = (),
) -> Recording:
    known = texts.get("steps_known", "none" if steps is None else "all")
    if known not in STEPS_KNOWN:
        raise RecordingError(f"{path}: steps_known is {brief(known)!r}; allowed are {', '.join(STEPS_KNOWN)}")
    recording = Recording(
        path=path,
        name=recording_name(path),
        time_s=time_s,
        imu=imu,
        sampling_rate_hz=rate_hz,
        steps=None if known == "none" else check_steps(path, steps, known, float(time_s[-1])),
        steps_known=known,
        label_intervals=check_intervals(path, label_intervals, float(time_s[-1])),
        activity=activity,
        activity_names=activity_names,
        metadata={key: value for key, value in texts.items() if key not in {*_OWN_KEYS, "sampling_rate_hz"}},
        **{key: brief(texts.get(key, ""), _MAX_NAME_CHARACTERS) for key in _TEXT_KEYS},
    )
    if known == "bouts" and recording.label_intervals is None:
        raise RecordingError(f"{path}: steps_known is 'bouts' but there are no label_intervals; add them in seconds")
    return recording


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from error
    with file:
        arrays = _npz_arrays(path, file)
    for key in ("imu", "fs"):
        if key not in arrays:
            has = ", ".join(sorted(arrays)) or "nothing"
            raise RecordingError(f"{path}: has no {key!r} (it holds: {has}); needed are 'imu' [N, 6] and 'fs' in Hz")
    return arrays


def _npz_arrays(path: Path, file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    if file.read(2) != b"PK":  # what every zip begins with
        raise RecordingError(f"{path}: no .npz archive; save with numpy.savez(imu=…, fs=…)")
    file.seek(0)
    try:
        with np.load(file, allow_pickle=False) as archive:
            _refuse_bomb(path, sum(member.file_size for member in archive.zip.infolist()))
            return {key: np.asarray(archive[key]) for key in archive.files}
    except RecordingError:
        raise
    except MemoryError:
        raise RecordingError(f"{path}: claims to hold more than fits into the memory; it is damaged") from None
    except Exception as error:
        # Whatever else: numpy reads a header as Python text, and a hostile one raises what it likes.
        if "allow_pickle=False" in str(error) and zipfile.is_zipfile(file):
            raise RecordingError(f"{path}: holds Python objects, which are not read; save arrays of numbers") from error
        raise RecordingError(
            f"{path}: not a readable .npz ({brief(error)}); it may be cut off: copy it again"
        ) from error


def _refuse_bomb(path: Path, unpacked_bytes: int) -> None:
    if unpacked_bytes > _MAX_NPZ_BYTES:
        raise RecordingError(f"{path}: unpacks to more than {_MAX_NPZ_BYTES} bytes; split the recording")


def _text(value: npt.NDArray[Any]) -> str:
    """Text as it may stand in a table or a line of a log."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def _rate_hz(path: Path, value: npt.NDArray[Any]) -> float:
    low_hz, high_hz = RATE_RANGE_HZ
    if value.size != 1 or value.dtype.kind not in "fiu" or not low_hz <= float(value.item()) <= high_hz:
        found = value.item() if value.size == 1 else f"an array {list(value.shape)}"
        raise RecordingError(f"{path}: 'fs' is {brief(found)}; allowed is one number from {low_hz:g} to {high_hz:g} Hz")
    return float(value.item())


def _imu(path: Path, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if value.ndim != 2 or value.shape[1] != 6 or value.dtype.kind not in "fiu":
        hint = "append three NaN columns if there is no gyroscope"
        if value.ndim == 2 and value.shape[0] == 6:
            hint = "it looks transposed: save imu.T"
        shape = list(value.shape)
        raise RecordingError(f"{path}: 'imu' is {value.dtype} {shape}; allowed is a number array [N, 6]; {hint}")
    return np.ascontiguousarray(value, dtype=np.float32)


def _csv_rate_hz(path: Path, table: recording_csv.CsvTable) -> float:
    period_s = np.diff(table.time_s)
    # The mean of the ordinary periods: a median alone is off by 4 % when 80 Hz times are rounded to 1 ms.
    measured_hz = round(1.0 / float(np.mean(period_s[period_s < 1.5 * np.median(period_s)])), 3)
    text = table.metadata.get("sampling_rate_hz")
    if text is None:
        return measured_hz
    line = f"'# sampling_rate_hz: {brief(text, 40)}'"
    try:
        stated_hz = float(text)
    except ValueError:
        raise RecordingError(f"{path}: {line} is not a number; correct or delete the line") from None
    if not 0.8 < stated_hz / measured_hz < 1.25:
        raise RecordingError(f"{path}: {line} but time_s runs at {measured_hz:g} Hz; correct or delete the line")
    return stated_hz


def _csv_intervals(path: Path, text: str) -> npt.NDArray[np.float64]:
    try:
        return np.array(json.loads(text), dtype=np.float64)
    except (ValueError, TypeError, RecursionError):
        short = brief(text, 60)
        raise RecordingError(f"{path}: '# label_intervals: {short}' is not a list like [[0.5, 12.0]]") from None
