"""`footfall doctor`: why does it not work, in the user's words, and what to do about it."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edge import config as configuration
from edge.doctor import basics, bus, clock, disk, measure, model, runner
from edge.doctor import broker as broker_check
from edge.doctor.finding import Check, Context, Finding, fail, ok
from edge.doctor.report import Bar, JsonReport, TextReport
from edge.errors import ConfigError
from edge.settings import Config

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator

EXIT_OK, EXIT_FAILED = 0, 1
MARGIN_S = 20.0
SERVICE_CONFIG = Path("/etc/footfall/config.yaml")
"""As in systemd/footfall.service."""


def command(arguments: Namespace) -> int:
    """Run every check; returns 0 only if nothing fails."""
    logging.disable(logging.WARNING)  # the drivers' running commentary: the findings say it
    if arguments.config is None and SERVICE_CONFIG.is_file():  # what the service reads, not the defaults
        arguments.config = SERVICE_CONFIG
    report = JsonReport(sys.stdout) if arguments.json else TextReport(sys.stdout)
    counts = {"ok": 0, "warn": 0, "fail": 0}
    with closing(findings(arguments)) as found:
        for one in found:
            counts[one.level] += 1
            report.add(one)
    report.end(counts)
    return EXIT_FAILED if counts["fail"] else EXIT_OK


def findings(arguments: Namespace) -> Generator[Finding, None, None]:
    """Yield the findings of every check that makes sense; without a config that is only the machine's."""
    problems = config_problems(arguments.config)
    if problems:
        for problem in problems:
            yield fail("config", problem, "correct it, then run doctor again")
        yield from runner.run([Check("machine", basics.machine, basics.LIMIT_S)], Context(Config()))
        return
    context = Context(configuration.load(arguments.config, os.environ), measure_s=arguments.seconds)
    unread = "; config.yaml here is not read by itself" if Path("config.yaml").is_file() else ""
    none = f"no config file ({SERVICE_CONFIG} neither): every key at its default; --config names one{unread}"
    named = f"{arguments.config} is valid" if arguments.config else none
    yield ok("config", named)
    if sys.stderr.isatty() and arguments.seconds > 0:
        context.progress = Bar(arguments.seconds)
    yield from runner.run(checks(arguments.seconds), context)


def config_problems(path: Path | None) -> list[str]:
    """Return every problem of the file and the FOOTFALL__ variables, or of these alone where there is no file."""
    if path is not None:
        return [f"{path}: {problem}" for problem in configuration.check(path, os.environ)]
    try:
        configuration.load(None, os.environ)
    except ConfigError as error:
        return [str(error)]
    return []


def checks(measure_s: float) -> list[Check]:
    """Return all checks, in the order in which they build on each other."""
    return [
        Check("machine", basics.machine, basics.LIMIT_S),
        Check("model", model.check, model.LIMIT_S),
        Check("bus", bus.check, bus.LIMIT_S),
        Check("sensor", measure.check, measure_s + measure.START_LIMIT_S + MARGIN_S),
        Check("disk", disk.check, disk.LIMIT_S),
        Check("clock", clock.check, clock.LIMIT_S),
        Check("broker", broker_check.check, broker_check.LIMIT_S),
        Check("service", basics.unit, basics.LIMIT_S),
    ]
