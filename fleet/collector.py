"""`footfall-collector`: takes steps from a broker and writes each into PostgreSQL once.

A block of messages is acknowledged only when its transaction is committed. A collector, a broker node or the database
may die at any moment: what was not acknowledged comes again, and the table's key drops what is there already.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from edge.errors import FootfallError, UsageError
from edge.mqtt import Backoff
from fleet.rows import StepRow, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.sources import Message, Source
    from fleet.store import Store

log = logging.getLogger("footfall.collector")

MOST_MESSAGES = 1000
REPORT_EVERY_S = 60.0
DSN_VARIABLE, PASSWORD_VARIABLE = "FOOTFALL_COLLECTOR_DSN", "FOOTFALL_COLLECTOR_PASSWORD_FILE"


@dataclass(slots=True)
class Counts:
    """What one collector has done. repeated: steps that the table had already."""

    messages: int = 0
    stored: int = 0
    repeated: int = 0
    refused: int = 0


def collect(source: Source, store: Store, counts: Counts) -> None:
    """Move one block of messages; raises what source or store raise, and then nothing of the block is acknowledged."""
    messages = source.take(MOST_MESSAGES)
    if not messages:
        return
    rows, refused = sorted_out(messages)
    new = store.insert(rows, refused)
    source.done(messages)
    counts.messages += len(messages)
    counts.stored += new
    counts.repeated += len(rows) - new
    counts.refused += len(refused)


def sorted_out(messages: list[Message]) -> tuple[list[StepRow], list[tuple[str, bytes, str]]]:
    """Return the steps in messages, and (topic, payload, reason) of those that cannot be read."""
    rows: list[StepRow] = []
    refused = []
    for message in messages:
        try:
            rows += rows_of(message.topic, message.payload)
        except ValueError as error:
            refused.append((message.topic, message.payload, str(error)))
    return rows, refused


def run(open_source: Callable[[], Source], open_store: Callable[[], Store], stopping: threading.Event) -> Counts:
    """Collect until told to stop; a broker or database that is gone is asked again with full jitter."""
    import psycopg  # noqa: PLC0415  an optional extra

    counts, backoff, failures = Counts(), Backoff(base_s=0.5, cap_s=15.0), 0
    while not stopping.is_set():
        source: Source | None = None
        store: Store | None = None
        try:
            store = open_store()
            source = open_source()
            log.info("collecting")
            next_report_s = time.monotonic() + REPORT_EVERY_S
            while not stopping.is_set():
                collect(source, store, counts)
                failures = 0
                if time.monotonic() >= next_report_s:
                    next_report_s += REPORT_EVERY_S
                    log.info("%s", counts)
        except (psycopg.Error, OSError) as error:
            log.warning("%s; trying again", " ".join(str(error).split()) or type(error).__name__)
            stopping.wait(backoff.delay_s(failures, random.uniform))
            failures += 1
        finally:
            for each in (source, store):
                if each is not None:
                    _close(each)
    return counts


def _close(each: Source | Store) -> None:
    try:
        each.close()
    except Exception as error:  # noqa: BLE001  what is broken may break again while it is closed
        log.debug("%s", error)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 after a clean stop, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        open_source, open_store = _openers(options)
        counts = run(open_source, open_store, stopping)
    except FootfallError as error:
        print(f"footfall-collector: {error}", file=sys.stderr)
        return 2
    done = {
        "messages": counts.messages,
        "stored": counts.stored,
        "repeated": counts.repeated,
        "refused": counts.refused,
    }
    print("summary:", *(f"{name}={count}" for name, count in done.items()))
    return 0


def _openers(options: argparse.Namespace) -> tuple[Callable[[], Source], Callable[[], Store]]:
    try:
        from fleet.sources import AmqpSource, MqttSource  # noqa: PLC0415
        from fleet.store import Store  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"{error}: in a checkout `.venv/bin/pip install -e '.[collector]'`") from error
    dsn = os.environ.get(DSN_VARIABLE)
    if not dsn:
        raise UsageError(
            f"{DSN_VARIABLE} is not set; give PostgreSQL's connection string, as in 'host=db dbname=steps'"
        )
    password = _password()
    kinds = {urlsplit(url).scheme for url in options.broker}
    if kinds <= {"amqp", "amqps"}:
        urls = [_with_login(url, options.username, password) for url in options.broker]
        return (lambda: AmqpSource(urls, options.base_topic)), lambda: Store(dsn)
    if kinds <= {"mqtt", "mqtts"} and len(options.broker) == 1:
        url = urlsplit(options.broker[0])
        if not url.hostname:
            raise UsageError(f"--broker is {options.broker[0]!r}; allowed: mqtt://HOST:PORT")
        return (
            lambda: MqttSource.connect(
                url.hostname or "",
                url.port or (8883 if url.scheme == "mqtts" else 1883),
                base_topic=options.base_topic,
                client_id=options.client_id,
                username=options.username,
                password=password,
                ca_file=options.ca_file,
            )
        ), lambda: Store(dsn)
    raise UsageError(
        "--broker takes amqp://HOST:PORT (several for a cluster), or one mqtt://HOST:PORT or mqtts://HOST:PORT"
    )


def _password() -> str | None:
    path = os.environ.get(PASSWORD_VARIABLE)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{PASSWORD_VARIABLE} {path} cannot be read: {error}") from error


def _with_login(url: str, username: str | None, password: str | None) -> str:
    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageError(f"--broker is {url!r}; allowed: amqp://HOST:PORT")
    login = f"{quote(username, safe='')}:{quote(password or '', safe='')}@" if username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{login}{parts.hostname}{port}/{parts.path.lstrip('/') or '%2F'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="footfall-collector", description=__doc__)
    parser.add_argument(
        "--broker",
        action="append",
        required=True,
        metavar="URL",
        help="amqp://HOST:PORT, again for each node of a cluster; or mqtt://HOST:PORT",
    )
    parser.add_argument("--base-topic", default="footfall", metavar="TOPIC", help="what comes before the device's id")
    parser.add_argument(
        "--username", metavar="NAME", help=f"its password: first line of the file in {PASSWORD_VARIABLE}"
    )
    parser.add_argument("--ca-file", metavar="F", help="CA certificate for mqtts")
    parser.add_argument(
        "--client-id", default="footfall-collector", metavar="ID", help="of an MQTT session; one for each collector"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
