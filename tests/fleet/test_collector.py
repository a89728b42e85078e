"""The collector as a process between a real broker and a real PostgreSQL: every step once, whoever dies meanwhile.

`make test-cluster` installs what is needed and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fleet.simulate import Load, simulate
from fleet.simulated_device import Settings
from tests.broker import Broker, wait_until
from tests.conftest import ROOT
from tests.fleet.postgres import Postgres, programs
from tests.fleet.rabbit import BIN, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

psycopg = pytest.importorskip("psycopg", reason="pip install 'footfall[collector]'")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("FOOTFALL_CLUSTER" not in os.environ or programs() is None, reason="run with make test-cluster"),
]
PATIENCE_S = 300.0
DEVICES, SECONDS = int(os.environ.get("DEVICES") or 100), float(os.environ.get("SECONDS") or 40.0)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    database.start()
    yield database
    database.stop()


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
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> None:
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
    made = json.loads(truth.read_text(encoding="utf-8"))
    return {device: (entry["steps"], entry["steps"]) for device, entry in made.items() if entry["steps"]}


def test_mosquitto_to_postgres_with_a_crash_of_the_database(tmp_path: Path, postgres: Postgres) -> None:
    broker = Broker(tmp_path, "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
    broker.start()
    collector = Collector(tmp_path, postgres.dsn, [f"mqtt://127.0.0.1:{broker.port}"])
    try:
        wait_until(lambda: "collecting" in (tmp_path / "collector.log").read_text(), timeout_s=60, what="collecting")

        def crash() -> None:
            time.sleep(4.0)
            postgres.kill()
            postgres.start()

        breaker = threading.Thread(target=crash)
        breaker.start()
        settings = Settings([("127.0.0.1", broker.port)], period_s=1.0, connect_within_s=1.0)
        figures = simulate(Load(devices=30, seconds=15.0), settings, tmp_path / "truth.json")
        breaker.join()
        assert figures["steps_made"] == figures["steps_acked"] > 0
        wanted = expected(tmp_path / "truth.json")
        wait_until(lambda: stored(postgres.dsn) == wanted, timeout_s=PATIENCE_S, what="every step, once")
        collector.kill()
        collector.start()
        time.sleep(3.0)
        assert stored(postgres.dsn) == wanted
    finally:
        collector.stop()
        broker.stop()


@pytest.mark.skipif(not BIN.is_dir(), reason="no RabbitMQ here: make test-cluster")
def test_three_nodes_of_which_the_leader_dies(tmp_path: Path, postgres: Postgres) -> None:
    cluster = Cluster(tmp_path / "rabbit")
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS step, refused")
    try:
        cluster.start()
        urls = [f"amqp://127.0.0.1:{node.amqp}" for node in cluster.nodes]
        collector = Collector(tmp_path, postgres.dsn, urls, cluster.username, cluster.password)
        # The queue must be there before the first device: RabbitMQ acknowledges what no queue wants.
        wait_until(lambda: "collecting" in (tmp_path / "collector.log").read_text(), timeout_s=60, what="collecting")

        def crash() -> None:
            time.sleep(0.4 * SECONDS)
            cluster.kill(cluster.leader("footfall-steps"))
            collector.kill()
            collector.start()

        breaker = threading.Thread(target=crash)
        breaker.start()
        settings = Settings(
            [("127.0.0.1", node.mqtt) for node in cluster.nodes],
            username=cluster.username,
            password=cluster.password,
            period_s=max(2.0, DEVICES / 300),
            connect_within_s=max(5.0, DEVICES / 300),
        )
        figures = simulate(Load(devices=DEVICES, seconds=SECONDS), settings, tmp_path / "truth.json")
        breaker.join()
        print(figures)
        assert figures["steps_made"] == figures["steps_acked"] > 0
        wanted = expected(tmp_path / "truth.json")
        wait_until(lambda: stored(postgres.dsn) == wanted, timeout_s=PATIENCE_S, what="every step, once")
        collector.stop()
    finally:
        cluster.stop()
