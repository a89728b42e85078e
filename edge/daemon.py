"""`footfall run`: sensor to broker until told to stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edge import __version__
from edge import config as configuration
from edge.classifier import StepClassifier
from edge.health import Health
from edge.imu import open_imu
from edge.outbox import Outbox
from edge.payloads import DeviceInfo
from edge.pipeline import Pipeline, detect
from edge.publisher import Publisher

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping

    from edge.config import Config, Sensor
    from edge.imu import Imu
    from edge.payloads import Quality

log = logging.getLogger("footfall")

SENSOR_SILENT_S = 2.0
"""No sample for so long: the sensor is gone as far as anyone who reads the count is concerned."""
CLOSE_TIMEOUT_S = 5.0


def command(arguments: Namespace) -> int:
    """Run the daemon; returns 0 after a clean stop."""
    config = configuration.load(arguments.config, os.environ)
    set_up_logging(config)
    return run(config)


def run(config: Config, *, open_source: Callable[[Sensor], Imu] = open_imu) -> int:
    """Count steps until SIGTERM, SIGINT or the end of a recording; returns 0.

    open_source: how the sensor is opened, replaced where there is no bus. Raises FootfallError for a model, sensor or
    outbox that cannot be used; a missing broker is no error.
    """
    # The model first: without it nothing else is worth starting, and it touches no hardware.
    health = Health(os.environ)
    classifier = StepClassifier(config.model.path, int8_only=config.model.int8_only, observe=health.inference)
    with ExitStack() as stack:
        outbox = Outbox(config.outbox.path, max_age_h=config.outbox.max_age_h, max_bytes=config.outbox.max_bytes)
        stack.callback(outbox.close)
        imu = open_source(config.sensor)
        stack.callback(imu.close)
        health.sensor_counters = lambda: totals(imu.counters())
        publisher = Publisher(config, describe(config, classifier, imu, outbox), health)
        publisher.start()
        stack.callback(publisher.close, outbox, timeout_s=CLOSE_TIMEOUT_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: imu.close())
        health.systemd.ready(f"counting steps from {imu.name}")
        log.info("counting steps from %s at %g Hz, %d so far", imu.name, imu.sampling_rate_hz, outbox.total)
        count_steps(imu, Pipeline(classifier, source_rate_hz=imu.sampling_rate_hz), outbox, publisher, health)
        health.systemd.stopping()
        log.info("stopping: %d steps in this run, %d in all", outbox.seq, outbox.total)
    return 0


def count_steps(imu: Imu, pipeline: Pipeline, outbox: Outbox, publisher: Publisher, health: Health) -> None:
    """Everything the daemon does once it runs: each step is durable before it is offered to the broker."""
    heard_s = time.monotonic()
    for batch, steps in detect(imu, pipeline):
        now_s = time.monotonic()
        heard_s = now_s if batch is None or len(batch.time_s) else heard_s
        for step in steps:
            outbox.append(step, time.time() - (now_s - step.time_s))
            log.debug("step %d at %.3f s, confidence %.2f", outbox.total, step.time_s, step.confidence)
        publisher.quality = quality(now_s - heard_s)
        publisher.drain(outbox)
        health.beat()


def quality(silent_s: float) -> Quality:
    """Return what the count is worth when the sensor has been silent for so long."""
    return "no_sensor" if silent_s > SENSOR_SILENT_S else "ok"


def totals(counters: Mapping[str, int]) -> dict[str, int]:
    """Sum a source's own counters up to the two that every source has."""
    return {
        "samples_dropped": counters.get("gap_samples", 0),
        "bus_errors": counters.get("bad_register", 0) + counters.get("bad_transfer", 0),
    }


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
