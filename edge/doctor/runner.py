"""Runs checks one after the other, each in a thread that may hang without taking the report with it."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, fail
from edge.errors import FootfallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge.doctor.finding import Check, Context

CANCEL_WAIT_S = 3.0


def run(checks: Sequence[Check], context: Context, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Finding]:
    """Yield every finding as it is made; a check that takes too long is reported and left behind.

    When the consumer gives up (Ctrl-C closes the generator), the running check is told so and waited for a moment.
    """
    for check in checks:
        found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
        # A daemon thread: a system call that never returns must not keep the process from ending.
        thread = threading.Thread(target=_work, args=(check, context, found), name=check.area, daemon=True)
        thread.start()
        try:
            yield from _collect(check, found, clock() + check.limit_s, clock)
        except (GeneratorExit, KeyboardInterrupt):
            context.cancelled.set()
            thread.join(CANCEL_WAIT_S)
            raise


def _collect(
    check: Check, found: queue.SimpleQueue[Finding | None], deadline_s: float, clock: Callable[[], float]
) -> Iterator[Finding]:
    while True:
        try:
            one = found.get(timeout=max(0.0, deadline_s - clock()))
        except queue.Empty:
            yield fail(
                check.area,
                f"this check did not end within {check.limit_s:g} s and was given up",
                "something it asked does not answer: look at `dmesg | tail`, then run doctor again",
            )
            return
        if one is None:
            return
        yield one


def _work(check: Check, context: Context, found: queue.SimpleQueue[Finding | None]) -> None:
    try:
        for one in check.run(context):
            found.put(one)
    except FootfallError as error:
        found.put(fail(check.area, " ".join(str(error).split()), ""))
    except Exception as error:  # noqa: BLE001  a doctor that dies of what it finds is of no use
        found.put(fail(check.area, f"this check itself failed: {error!r}", "please report this line as a bug"))
    finally:
        found.put(None)
