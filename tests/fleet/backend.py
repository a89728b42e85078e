"""What stands behind a fleet in these tests: the collector process, the table, and a whole cluster under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.simulate import Load, simulate
from fleet.simulated_device import Settings
from tests.broker import wait_until
from tests.conftest import ROOT
from tests.fleet.rabbit import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet.postgres import Postgres

psycopg = pytest.importorskip("psycopg", reason="pip install 'footfall[collector]'")
PATIENCE_S = 300.0


class Collector:
    """`footfall-collector` as a child process, started again after it was killed."""

    def __init__(self, folder: Path, dsn: str, brokers: list[str], username: str = "", password: str = "") -> None:
        secret = folder / "password"
        secret.write_text(f"{password}\n", encoding="utf-8")
        self._environment = os.environ | {
            "FOOTFALL_COLLECTOR_DSN": dsn,
            "FOOTFALL_COLLECTOR_PASSWORD_FILE": str(secret),
            "PYTHONPATH": str(ROOT),
        }
        self._command = [sys.executable, "-m", "fleet.collector"]
        for broker in brokers:
            self._command += ["--broker", broker]
        self._command += ["--username", username] if username else []
        self._log = (folder / "collector.log").open("ab")
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=self._log, stderr=self._log)

    @property
    def pid(self) -> int:
        """Process id of the one that runs now."""
        return self._process.pid

    def kill(self) -> None:
        """Take it away without a word."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> None:
        """End it as a service manager would."""
        self._process.terminate()
        assert self._process.wait(60) == 0
        self._log.close()


def stored(dsn: str) -> dict[str, tuple[int, int]]:
    """Return (rows, highest seq) of every device; empty while the database is away."""
    try:
        with psycopg.connect(dsn) as connection:
            rows = connection.execute("SELECT device_id, count(*), max(seq) FROM step GROUP BY device_id").fetchall()
    except psycopg.Error:
        return {}
    return {device: (count, last) for device, count, last in rows}


def expected(truth: Path) -> dict[str, tuple[int, int]]:
    """Return what stored() must be, from what the simulator wrote down."""
    made = json.loads(truth.read_text(encoding="utf-8"))
    return {device: (entry["steps"], entry["steps"]) for device, entry in made.items() if entry["steps"]}


def load_cluster(
    folder: Path,
    postgres: Postgres,
    load: Load,
    period_s: float,
    *,
    breaks: Callable[[Cluster, Collector], None] | None = None,
) -> dict[str, Any]:
    """Run a fleet against a fresh three-node cluster, the collector and an empty table; return its figures.

    breaks: called after two fifths of the time. AssertionError unless every step is acknowledged and stored once.
    """
    cluster = Cluster(folder / "rabbit")
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS step, refused")
    try:
        cluster.start()
        urls = [f"amqp://127.0.0.1:{node.amqp}" for node in cluster.nodes]
        collector = Collector(folder, postgres.dsn, urls, cluster.username, cluster.password)
        # The queue must be there before the first device: RabbitMQ acknowledges what no queue wants.
        wait_until(lambda: "collecting" in (folder / "collector.log").read_text(), timeout_s=60, what="collecting")
        settings = Settings(
            [("127.0.0.1", node.mqtt) for node in cluster.nodes],
            username=cluster.username,
            password=cluster.password,
            period_s=period_s,
            connect_within_s=max(5.0, load.devices / 300),
        )
        breaker = threading.Timer(0.4 * load.seconds, lambda: breaks(cluster, collector) if breaks else None)
        cost = Cost({"nodes": cluster.sessions(), "collector": [collector.pid]})
        breaker.start()
        figures = simulate(load, settings, folder / "truth.json", at_end=cost.stop)
        breaker.join()
        ended_s = time.monotonic()
        assert figures["steps_made"] == figures["steps_acked"] > 0, figures
        wanted = expected(folder / "truth.json")
        wait_until(lambda: stored(postgres.dsn) == wanted, timeout_s=PATIENCE_S, what="every step, once")
        collector.stop()
        figures["stored"] = sum(count for count, _ in wanted.values())
        figures["stored_after_s"] = round(time.monotonic() - ended_s, 1)
        return figures | cost.figures()
    finally:
        cluster.stop()


class Cost:
    """Memory and processor time of groups of process sessions, from now until stop()."""

    def __init__(self, groups: dict[str, list[int]]) -> None:
        self._groups = groups
        self._before = self._now()

    def stop(self) -> None:
        """Measure what there is now. A session that has ended meanwhile is not counted."""
        self._after = self._now()

    def figures(self) -> dict[str, float]:
        """Return `{group}_mb` at the end, and `{group}_cpu_s` since the beginning."""
        found: dict[str, float] = {}
        for name, sessions in self._groups.items():
            living = [session for session in sessions if session in self._after]
            found[f"{name}_mb"] = round(sum(self._after[session][0] for session in living), 1)
            found[f"{name}_cpu_s"] = round(sum(self._after[s][1] - self._before[s][1] for s in living), 1)
        return found

    def _now(self) -> dict[int, tuple[float, float]]:
        """Return (resident MB, CPU seconds) of each session's or process' processes."""
        wanted = {pid for pids in self._groups.values() for pid in pids}
        page_mb, tick_s = os.sysconf("SC_PAGE_SIZE") / 1e6, 1.0 / os.sysconf("SC_CLK_TCK")
        found: dict[int, tuple[float, float]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            pid, session = int(path.parent.name), int(fields[3])
            key = pid if pid in wanted else session
            if key in wanted:
                mb, cpu_s = found.get(key, (0.0, 0.0))
                used_s = tick_s * (int(fields[11]) + int(fields[12]))
                found[key] = (mb + page_mb * int(fields[21]), cpu_s + used_s)
        return found
