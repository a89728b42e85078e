"""`footfall doctor`: why does it not work, in the user's words, and what to do about it."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from edge import config as configuration
from edge.doctor import basics, bus, clock, disk, measure, model, runner
from edge.doctor import broker as broker_check
from edge.doctor.finding import Check, Context, Finding, fail, ok
from edge.doctor.report import Bar, JsonReport, TextReport

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

EXIT_OK, EXIT_FAILED = 0, 1
MARGIN_S = 20.0


def command(arguments: Namespace) -> int:
    """Run every check; returns 0 only if nothing fails."""
    report = JsonReport(sys.stdout) if arguments.json else TextReport(sys.stdout)
    counts = {"ok": 0, "warn": 0, "fail": 0}
    with closing(findings(arguments)) as found:
        for one in found:
            counts[one.level] += 1
            report.add(one)
    report.end(counts)
    return EXIT_FAILED if counts["fail"] else EXIT_OK


def findings(arguments: Namespace) -> Iterator[Finding]:
    """Yield the findings of every check that makes sense; without a config that is only the machine's."""
    problems = configuration.check(arguments.config, os.environ) if arguments.config else []
    if not problems:
        problems = [] if arguments.config else environment_problems()
    if problems:
        for problem in problems:
            yield fail("config", f"{arguments.config or 'environment'}: {problem}", "correct it, then run doctor again")
        context = Context(configuration.Config())
        yield from runner.run([Check("machine", basics.machine, basics.LIMIT_S)], context)
        return
    context = Context(configuration.load(arguments.config, os.environ), arguments.config, measure_s=arguments.seconds)
    yield ok(
        "config", f"{arguments.config} is valid" if arguments.config else "no config file: every key at its default"
    )
    if sys.stderr.isatty() and arguments.seconds > 0:
        context.progress = Bar(arguments.seconds)
    yield from runner.run(checks(arguments.seconds), context)


def environment_problems() -> list[str]:
    """Return what is wrong with the FOOTFALL__ variables where there is no file."""
    from edge.errors import ConfigError  # noqa: PLC0415  only here

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
