"""`python -m tests.fleet.cost`: what a device costs the cluster, the collector and the simulator, at growing fleets."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from fleet.simulate import Load
from tests.fleet.backend import load_cluster
from tests.fleet.postgres import Postgres

COSTS = ("nodes_cpu_s", "nodes_mb", "collector_cpu_s", "collector_mb", "simulator_cpu_s")


def main() -> int:
    """Run each size for the same time with the same period; print a table, and whether any cost outgrew the fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--seconds", type=float, default=120.0, help="of each")
    parser.add_argument("--period", type=float, default=20.0, help="seconds between two batches of a device")
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for devices in arguments.devices:
        postgres = Postgres()
        try:
            postgres.start()
            with tempfile.TemporaryDirectory() as folder:
                runs.append(load_cluster(Path(folder), postgres, Load(devices, arguments.seconds), arguments.period))
        finally:
            postgres.stop()
    for run in runs:
        print(run)
    print(table(runs))
    grown = [name for name in COSTS if outgrown(runs, name)]
    print(f"cost that grew faster than the fleet: {', '.join(grown) or 'none'}")
    return 1 if grown else 0


def outgrown(runs: list[dict[str, Any]], name: str) -> bool:
    """Whether the last run's cost is more than its size makes of the first one's."""
    first, last = runs[0], runs[-1]
    return bool(last[name] / last["devices"] > max(first[name], 0.1) / first["devices"])


def table(runs: list[dict[str, Any]]) -> str:
    """One line a size: totals, and in brackets the cost of one device (ms of CPU, kB)."""
    lines = ["| devices | steps stored | batches/s | " + " | ".join(COSTS) + " |", "|---" * (3 + len(COSTS)) + "|"]
    for run in runs:
        devices = run["devices"]
        cells = [f"{run[name]:.1f} ({1000.0 * run[name] / devices:.1f})" for name in COSTS]
        lines.append(f"| {devices:,} | {run['stored']:,} | {run['messages_per_s']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
