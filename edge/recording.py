"""Recordings: raw IMU data from a file, with step labels where it has them."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge import recording_csv
from edge.errors import RecordingError
from edge.recording_checks import RATE_RANGE_HZ, check_samples, check_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEPS_KNOWN = ("all", "bouts", "zero", "quasi", "none", "count")
"""How far the step labels can be trusted; see Recording.steps_known."""

SUFFIXES = (".npz", ".csv", ".csv.gz")
_LABEL_SUFFIX = ".steps.csv"
_TEXT_KEYS = ("dataset", "subject", "placement")
_OWN_KEYS = {"imu", "fs", "steps", "steps_known", "label_intervals", "activity", "activity_names", *_TEXT_KEYS}
_SCALAR_KINDS = "fiubU"
_NPZ_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError, NotImplementedError)


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


def load(path: str | Path) -> Recording:
    """Read an `.npz`, `.csv` or `.csv.gz` recording.

    Raises RecordingError, naming the place and the way out, for anything that is not a recording in SI units.
    """
    path = Path(path)
    if path.name.endswith(_LABEL_SUFFIX):
        raise RecordingError(f"{path}: this is a label file; give the recording beside it")
    if not path.name.endswith(SUFFIXES):
        raise RecordingError(f"{path}: not a recording; allowed are files that end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise RecordingError(f"{path}: {what}; give a file that ends in {', '.join(SUFFIXES)}")
    return _load_npz(path) if path.suffix == ".npz" else _load_csv(path)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Files as given, and every recording below each directory, sorted; label files are left out.

    Raises RecordingError for a path that does not exist and for a directory without a recording.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise RecordingError(f"{path}: no such file or directory")
        inside = sorted(p for p in path.rglob("*") if _is_recording(p)) if path.is_dir() else [path]
        if not inside:
            raise RecordingError(f"{path}: no recording in this directory; looked for *{', *'.join(SUFFIXES)}")
        found += inside
    return found


def save_npz(path: str | Path, recording: Recording) -> None:
    """Write an `.npz`; it has no time column, so a recording with gaps or jitter belongs in a CSV.

    Raises RecordingError if the sample times are not i / sampling_rate_hz.
    """
    expected_s = np.arange(len(recording.imu)) / recording.sampling_rate_hz
    if np.max(np.abs(recording.time_s - expected_s)) > 0.5 / recording.sampling_rate_hz:
        raise RecordingError(f"{path}: an .npz keeps no sample times and these are uneven; save a .csv instead")
    keys: dict[str, Any] = dict(recording.metadata)
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


def _is_recording(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.endswith(_LABEL_SUFFIX) and path.is_file()


def _load_npz(path: Path) -> Recording:
    arrays = _read_npz(path)
    rate_hz = _rate_hz(path, arrays["fs"])
    imu = _imu(path, arrays["imu"])
    time_s = np.arange(len(imu)) / rate_hz
    check_samples(path, time_s, imu, lambda sample: f"sample {sample}")
    texts = {key: str(value) for key, value in arrays.items() if value.ndim == 0 and value.dtype.kind in _SCALAR_KINDS}
    activity = arrays.get("activity")
    if activity is not None and activity.shape != (len(imu),):
        raise RecordingError(f"{path}: 'activity' has shape {list(activity.shape)}; allowed is [{len(imu)}], as 'imu'")
    return _recording(
        path,
        time_s=time_s,
        imu=imu,
        rate_hz=rate_hz,
        texts=texts,
        steps=arrays.get("steps"),
        label_intervals=arrays.get("label_intervals"),
        activity=None if activity is None else activity.astype(np.int64),
        activity_names=tuple(map(str, arrays.get("activity_names", ()))),
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
        raise RecordingError(f"{path}: steps_known is {known!r}; allowed are {', '.join(STEPS_KNOWN)}")
    recording = Recording(
        path=path,
        name=recording_name(path),
        time_s=time_s,
        imu=imu,
        sampling_rate_hz=rate_hz,
        steps=None if known == "none" else check_steps(path, steps, known, float(time_s[-1])),
        steps_known=known,
        label_intervals=_intervals(path, label_intervals),
        activity=activity,
        activity_names=activity_names,
        metadata={key: value for key, value in texts.items() if key not in {*_OWN_KEYS, "sampling_rate_hz"}},
        **{key: texts.get(key, "") for key in _TEXT_KEYS},
    )
    if known == "bouts" and recording.label_intervals is None:
        raise RecordingError(f"{path}: steps_known is 'bouts' but there are no label_intervals; add them in seconds")
    return recording


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
    except TypeError:  # an array is no context manager
        raise RecordingError(f"{path}: holds a single array; save with numpy.savez(imu=…, fs=…)") from None
    except _NPZ_DAMAGE as error:
        raise RecordingError(f"{path}: not a readable .npz ({error}); it may be cut off: copy it again") from error
    for key in ("imu", "fs"):
        if key not in arrays:
            has = ", ".join(sorted(arrays)) or "nothing"
            raise RecordingError(f"{path}: has no {key!r} (it holds: {has}); needed are 'imu' [N, 6] and 'fs' in Hz")
    return arrays


def _rate_hz(path: Path, value: npt.NDArray[Any]) -> float:
    low_hz, high_hz = RATE_RANGE_HZ
    if value.size != 1 or value.dtype.kind not in "fiu" or not low_hz <= float(value.item()) <= high_hz:
        raise RecordingError(f"{path}: 'fs' is {value}; allowed is one number from {low_hz:g} to {high_hz:g} Hz")
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
    try:
        stated_hz = float(text)
    except ValueError:
        raise RecordingError(
            f"{path}: '# sampling_rate_hz: {text}' is not a number; correct or delete the line"
        ) from None
    if not 0.8 < stated_hz / measured_hz < 1.25:
        raise RecordingError(
            f"{path}: '# sampling_rate_hz: {text}' but time_s runs at {measured_hz:g} Hz; correct or delete the line"
        )
    return stated_hz


def _csv_intervals(path: Path, text: str) -> npt.NDArray[np.float64]:
    try:
        return np.array(json.loads(text), dtype=np.float64)
    except (ValueError, TypeError):
        raise RecordingError(f"{path}: '# label_intervals: {text}' is not a list like [[0.5, 12.0]]") from None


def _intervals(path: Path, value: npt.NDArray[Any] | None) -> npt.NDArray[np.float64] | None:
    if value is None or value.size == 0:
        return None
    pairs = np.atleast_2d(value)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "fiu":
        raise RecordingError(f"{path}: 'label_intervals' has shape {list(value.shape)}; allowed is [M, 2] in seconds")
    return pairs.astype(np.float64)
