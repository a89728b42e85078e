"""`footfall record`: raw IMU data from the sensor to a recording that `footfall replay` plays."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from edge import __version__
from edge import config as configuration
from edge.errors import UsageError
from edge.holders import holders
from edge.imu import open_imu
from edge.imu.bus import bus_path
from edge.progress import Progress
from edge.recording_checks import MIN_SAMPLES
from edge.recording_writer import RecordingWriter, check_target
from edge.rules import printable
from edge.types import BatchFlag

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from edge.imu import Imu
    from edge.settings import Config
    from edge.types import SampleBatch

EXIT_OK, EXIT_FAILED = 0, 1
BLOCK_S = 1.0
LATE_S = 5.0
"""A sensor that is lost near the end is waited for so long beyond the time asked for."""
RATE_DIGITS = 3
NAMED_LABELS = ("dataset", "subject", "placement", "label")


@dataclass(slots=True)
class Take:
    """What has been recorded so far, on the recording's own time: seconds since its first sample."""

    first_s: float | None = None
    last_s: float = 0.0
    samples: int = 0
    segment: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)

    def add(self, batch: SampleBatch) -> None:
        """Count a batch."""
        if self.first_s is None:
            self.first_s, self.segment = float(batch.time_s[0]), batch.segment
        elif BatchFlag.GAP_BEFORE in batch.flags or batch.segment != self.segment:
            self.gaps.append((self.last_s, float(batch.time_s[0]) - self.first_s))
            self.segment = batch.segment
        self.last_s = float(batch.time_s[-1]) - self.first_s
        self.samples += len(batch.time_s)

    def rate_hz(self, nominal_hz: float) -> float:
        """Return the mean rate inside the segments; nominal where there are too few samples to tell."""
        lost_s = sum(end_s - begin_s for begin_s, end_s in self.gaps)
        intervals = self.samples - 1 - len(self.gaps)
        return round(intervals / (self.last_s - lost_s), RATE_DIGITS) if intervals >= MIN_SAMPLES else nominal_hz


def command(arguments: Namespace) -> int:
    """Record; returns 0, also after Ctrl-C, and 1 where there is less than was asked for because something failed."""
    if arguments.seconds <= 0:
        raise UsageError(f"--seconds is {arguments.seconds:g}; give a duration above 0")
    labels = parse_labels(arguments.label)
    check_target(arguments.out, force=arguments.force)  # before the sensor is touched
    config = configuration.load(arguments.config, os.environ)
    refuse_beside_the_daemon(config)
    imu = open_imu(config.sensor)
    with stoppable(imu):
        try:
            writer = RecordingWriter(arguments.out, metadata(config, imu, labels), force=arguments.force)
            return record(imu, writer, arguments.seconds)
        finally:
            imu.close()


def parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """`walk` and `placement=pocket` to metadata; raises UsageError for a key that nothing reads."""
    found: dict[str, str] = {}
    for text in labels:
        key, separator, value = text.partition("=")
        key, value = (key.strip(), value.strip()) if separator else ("label", text.strip())
        if key not in NAMED_LABELS or not value or not value.isprintable():
            raise UsageError(f"--label {text!r}: give a text, or one of {', '.join(NAMED_LABELS)} as key=text")
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found


def refuse_beside_the_daemon(config: Config) -> None:
    """Raise UsageError where the daemon has the sensor: two readers would take each other's samples."""
    if config.sensor.type == "replay":
        return
    for one in holders(bus_path(config.sensor.bus)):
        if one.daemon:
            raise UsageError(
                f"the Footfall daemon (process {one.pid}) reads this sensor: run `sudo systemctl stop footfall` first"
            )


def metadata(config: Config, imu: Imu, labels: dict[str, str]) -> dict[str, str]:
    """Return what the recording says about itself."""
    sensor = config.sensor
    return {
        "sensor": imu.name,
        "sampling_rate_hz": repr(imu.sampling_rate_hz),
        "recorded_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "recorded_by": f"footfall {__version__}",
        "mount_matrix": repr(np.array(sensor.mount_matrix).tolist()),
        **labels,
    }


@contextmanager
def stoppable(imu: Imu) -> Iterator[None]:
    """End the stream, and not the program, upon Ctrl-C and SIGTERM: what was recorded is to be kept."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        imu.close()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def record(imu: Imu, writer: RecordingWriter, seconds: float) -> int:
    """Write `seconds` of samples, or what there is until somebody stops it; returns the exit code."""
    take = Take()
    problem = ""
    try:
        for block_s, block in blocks(imu, take, seconds):
            writer.append(block_s, block)
    except OSError as error:
        problem = f"{error.strerror or error}: the rest is missing; free some disk space"
    imu.close()
    if writer.samples < MIN_SAMPLES:
        writer.discard()
        print(f"footfall record: {problem or 'the sensor gave no samples'}; nothing was kept", file=sys.stderr)
        return EXIT_FAILED
    rate_hz = take.rate_hz(imu.sampling_rate_hz)
    counters = ", ".join(f"{name} {count}" for name, count in imu.counters().items() if count)
    path = writer.finish({"counters": counters}, sampling_rate_hz=rate_hz, has_gaps=bool(take.gaps))
    return _tell(path, writer, take, imu, rate_hz=rate_hz, seconds=seconds, problem=problem)


def blocks(imu: Imu, take: Take, seconds: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (time_s from the first sample, imu) about once a second until `seconds` are full or the source ends."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    due_s = BLOCK_S
    deadline_s = time.monotonic() + seconds + LATE_S
    with Progress("recording", seconds) as progress:
        for batch in imu.batches():
            before_s = take.last_s
            if (part := _until(batch, take.first_s, seconds)) is not None:
                take.add(part)
                assert take.first_s is not None, "add() has set it"
                waiting.append((part.time_s - take.first_s, part.imu))
            progress.advance(take.last_s - before_s)
            is_over = take.last_s + 1.0 / imu.sampling_rate_hz >= seconds or time.monotonic() >= deadline_s
            if waiting and (is_over or take.last_s >= due_s):
                due_s = take.last_s + BLOCK_S
                yield _joined(waiting)
                waiting = []
            if is_over:
                return
    if waiting:
        yield _joined(waiting)


def _until(batch: SampleBatch, first_s: float | None, seconds: float) -> SampleBatch | None:
    """Return the part of a batch that lies within the time asked for; None if there is nothing in it."""
    if not len(batch.time_s):
        return None
    end_s = (float(batch.time_s[0]) if first_s is None else first_s) + seconds
    count = int(np.searchsorted(batch.time_s, end_s - 1e-6))
    if not count:
        return None
    return type(batch)(
        batch.time_s[:count], batch.imu[:count], batch.segment, batch.sequence, batch.temperature_c, batch.flags
    )


def _joined(waiting: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    times_s, imus = zip(*waiting, strict=True)
    return np.concatenate(times_s), np.concatenate(imus)


def _tell(
    path: object, writer: RecordingWriter, take: Take, imu: Imu, *, rate_hz: float, seconds: float, problem: str
) -> int:
    length_s = writer.last_s + 1.0 / imu.sampling_rate_hz
    print(f"{printable(path)}: {writer.samples} samples in {length_s:.1f} s from {imu.name} at {rate_hz:g} Hz")
    for begin_s, end_s in take.gaps:
        print(f"  gap from {begin_s:.2f} to {end_s:.2f} s: about {round((end_s - begin_s) * rate_hz) - 1} samples lost")
    if path != writer.out:
        print(f"  not {printable(writer.out.name)}, because {writer.npz_problem}; replay takes either")
    if problem:
        print(f"footfall record: {problem}", file=sys.stderr)
        return EXIT_FAILED
    if length_s < seconds - 1.0:
        print(f"  stopped before {seconds:g} s were full")
    return EXIT_OK
