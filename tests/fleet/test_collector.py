"""The collector as a process between a real broker and a real PostgreSQL: every step once, whoever dies meanwhile.

`make test-cluster` installs what is needed and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fleet.simulate import Load, simulate
from fleet.simulated_device import Settings
from tests.broker import Broker, wait_until
from tests.fleet.backend import PATIENCE_S, Collector, expected, load_cluster, stored
from tests.fleet.postgres import Postgres, programs
from tests.fleet.rabbit import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fleet.rabbit import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("FOOTFALL_CLUSTER" not in os.environ or programs() is None, reason="run with make test-cluster"),
]
DEVICES, SECONDS = int(os.environ.get("DEVICES") or 100), float(os.environ.get("SECONDS") or 40.0)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    database.start()
    yield database
    database.stop()


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
    def crash(cluster: Cluster, collector: Collector) -> None:
        cluster.kill(cluster.leader("footfall-steps"))
        collector.kill()
        collector.start()

    print(load_cluster(tmp_path, postgres, Load(DEVICES, SECONDS), max(2.0, DEVICES / 300), breaks=crash))
