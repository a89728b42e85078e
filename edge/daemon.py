"""`footfall run`: sensor to broker until told to stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from edge import __version__
from edge import config as configuration
from edge.classifier import StepClassifier
from edge.complaints import Complaints
from edge.errors import OutboxError
from edge.health import Health
from edge.imu import open_imu
from edge.imu_watch import SensorWatch
from edge.outbox import Outbox
from edge.payloads import DeviceInfo
from edge.pipeline import Pipeline, detect
from edge.publisher import Publisher

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable

    from edge.imu import Imu, OpenImu
    from edge.settings import Config
    from edge.types import SampleBatch, StepEvent

log = logging.getLogger("footfall")

CLOSE_TIMEOUT_S = 5.0
STORE_RETRY_S = 1.0
STORE_AT_ONCE = 256
"""Most steps in one transaction: a turn of the pipeline has a few, a disk that was full for hours many."""
MAX_WAITING = 100_000
"""Steps held in memory while the disk is full: about 20 MB, a day of walking without a pause."""


def command(arguments: Namespace) -> int:
    """Run the daemon; returns 0 after a clean stop."""
    config = configuration.load(arguments.config, os.environ)
    set_up_logging(config)
    return run(config)


def run(
    config: Config,
    *,
    open_source: OpenImu = partial(open_imu, wait=True),  # noqa: B008  it holds nothing
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> int:
    """Count steps until SIGTERM, SIGINT, SIGHUP or the end of a recording; returns 0.

    open_source: how the sensor is opened, replaced where there is no bus; clock: that of its samples; wall_clock: the
    date. Raises FootfallError for a model, recording or outbox that cannot be used. A missing broker is no error, nor
    is a missing bus or sensor: they are waited for.
    """
    # The model first: without it nothing else is worth starting, and it touches no hardware.
    health = Health(os.environ)
    classifier = StepClassifier(config.model.path, int8_only=config.model.int8_only, observe=health.inference)
    with ExitStack() as stack:
        imu = open_source(config.sensor, gyroscope=classifier.manifest.needs_gyroscope)
        stack.callback(imu.close)
        outbox = Outbox(config.outbox.path, max_age_h=config.outbox.max_age_h, max_bytes=config.outbox.max_bytes)
        stack.callback(outbox.close)
        publisher = Publisher(config, describe(config, classifier, imu, outbox), health)
        watch = SensorWatch(imu, publisher, health, lambda: describe(config, classifier, imu, outbox))
        publisher.start()
        stack.callback(publisher.close, outbox, timeout_s=CLOSE_TIMEOUT_S)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and `footfall run &` want it to go on
                signal.signal(number, lambda *_: imu.close())
        health.systemd.ready(watch.sentence(imu.status()))
        log.info("ready with %s at %g Hz, %d steps so far", imu.name, imu.sampling_rate_hz, outbox.total)
        pipeline = Pipeline(classifier, source_rate_hz=imu.sampling_rate_hz)
        count_steps(detect(imu, pipeline), outbox, publisher, watch, clock=clock, wall_clock=wall_clock)
        health.systemd.stopping()
        log.info("stopping: %d steps in this run, %d in all", outbox.seq, outbox.total)
    return 0


def count_steps(
    detected: Iterable[tuple[SampleBatch | None, list[StepEvent]]],
    outbox: Outbox,
    publisher: Publisher,
    watch: SensorWatch,
    *,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> None:
    """Everything the daemon does once it runs: each step is durable before it is offered to the broker."""
    heard_s = clock()
    shelf = Shelf(outbox)
    for batch, steps in detected:
        now_s = clock()
        heard_s = now_s if batch is None or len(batch.time_s) else heard_s
        shelf.store([(step, wall_clock() - (now_s - step.time_s)) for step in steps])
        publisher.unstored = len(shelf.waiting) + shelf.dropped
        watch.turn(now_s - heard_s, is_storing=not shelf.waiting)
        publisher.observe(batch)
        drain(publisher, outbox)
        watch.beat()
    if shelf.waiting or shelf.dropped:
        log.error("%d steps are lost, which could not be stored: free some disk space", publisher.unstored)


def drain(publisher: Publisher, outbox: Outbox) -> None:
    """Send what waits; a disk that does not answer right now is asked again in the next turn."""
    try:
        publisher.drain(outbox)
    except OutboxError as error:
        if not error.transient:
            raise
        log.debug("%s", error)


class Shelf:
    """Holds steps that the disk does not take right now, in order, until it does."""

    def __init__(self, outbox: Outbox) -> None:
        self.waiting: deque[tuple[StepEvent, float]] = deque()
        self.dropped = 0
        self._outbox = outbox
        self._complaints = Complaints()
        self._retry_s = 0.0

    def store(self, steps: list[tuple[StepEvent, float]]) -> None:
        """Store what waits and these steps (with their wall times); raises OutboxError if that can never work."""
        had_waiting = bool(self.waiting)
        self.waiting.extend(steps)
        if had_waiting and time.monotonic() < self._retry_s:
            return
        try:
            while self.waiting:
                group = list(islice(self.waiting, STORE_AT_ONCE))
                self._outbox.append_all(group)
                for _ in group:
                    self.waiting.popleft()
        except OutboxError as error:
            if not error.transient:
                raise
            self._retry_s = time.monotonic() + STORE_RETRY_S
            self._complaints.log(
                f"{error}; {len(self.waiting)} steps wait in memory: not sent before they are stored, lost if footfall "
                "stops before",
                key="unstored",
            )
            while len(self.waiting) > MAX_WAITING:
                self.waiting.popleft()
                self.dropped += 1
        else:
            if had_waiting:
                log.info("the outbox takes steps again")
                self._complaints.clear()


def describe(config: Config, classifier: StepClassifier, imu: Imu, outbox: Outbox) -> DeviceInfo:
    """Return the birth message."""
    return DeviceInfo(
        software_version=__version__,
        model_name=classifier.manifest.name,
        model_version=classifier.manifest.version,
        model_sha256=classifier.sha256,
        sensor=imu.name,
        odr_hz=imu.sampling_rate_hz,
        boot_id=outbox.boot_id,
        config_hash=config.fingerprint(),
        host=socket.gethostname(),
    )


class JsonFormatter(logging.Formatter):
    """One JSON object per line, for machines that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        return json.dumps({"level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()})


def set_up_logging(config: Config) -> None:
    """Log to standard error, which is the journal under systemd; the journal adds the time itself."""
    handler = logging.StreamHandler()
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler.setFormatter(
        JsonFormatter() if config.logging.format == "json" else logging.Formatter(f"{stamp}%(levelname)s %(message)s")
    )
    logging.basicConfig(level=config.logging.level.upper(), handlers=[handler], force=True)
