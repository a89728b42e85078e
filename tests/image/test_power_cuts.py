"""Ten power cuts while the image writes steps to its card: everything that was stored arrives, once."""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.recording import load
from tests.broker import wait_until
from tests.image.book import health, settings
from tests.image.raspi import PATIENCE_S, Pi

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker import Broker, Subscriber

pytestmark = pytest.mark.image

POWER_CUTS = int(os.environ.get("CUTS") or 10)
WALK, TIMES = "oxford_val/user1__backpocket.npz", 6
"""206 s of a real walk, over and over; played at eight times its speed."""


def test_power_cuts_in_the_middle_of_writing_lose_nothing(
    walker: Pi,
    host_broker: Broker,
    subscriber: Subscriber,
    recordings_dir: Path,
    tmp_path: Path,
) -> None:
    walk = load(recordings_dir / WALK)
    with (tmp_path / "walk.npz").open("wb") as file:
        np.savez_compressed(file, imu=np.concatenate([walk.imu] * TIMES), fs=walk.sampling_rate_hz)
    walker.card.put("walk.npz", (tmp_path / "walk.npz").read_bytes())
    replay = {"type": "replay", "recording": "/boot/firmware/walk.npz", "replay_speed": 8}
    walker.card.put("footfall.yaml", settings(host_broker, sensor=replay))
    chance = random.Random(7)  # noqa: S311  the same delays in every run
    totals = [0]
    for cut in range(POWER_CUTS):
        received = run_until_cut(walker, subscriber, chance, totals[-1], network=cut % 2 == 0)
        stored = walker.card.stored(tmp_path)
        print(
            f"\npower cut {cut + 1}: {stored.total} steps in all, {len(stored.waiting)} wait, {len(received)} "
            f"received, {time.time() - walker.started_s:.0f} s"
        )
        assert stored.total > totals[-1], "the lifetime total grows in every run"
        assert len(received) + len(stored.waiting - received) == stored.total, "each step is received or waits"
        totals.append(stored.total)
    walker.card.put("footfall.yaml", settings(host_broker))
    walker.power_on()
    (device,) = {message.topic.split("/")[1] for message in subscriber.on("steps")}

    def drained() -> bool:
        return health(subscriber, device).get("outbox_depth") == 0 and len(set(subscriber.steps())) == totals[-1]

    wait_until(drained, timeout_s=PATIENCE_S, what="everything received")
    check_books(subscriber, device, totals[-1])


def run_until_cut(
    pi: Pi, subscriber: Subscriber, chance: random.Random, before: int, *, network: bool
) -> set[tuple[str, int]]:
    """Boot, let it count and write for a while, cut the power; return all steps received so far.

    before: the lifetime total at the last cut; those that waited then come first.
    """
    pi.power_on(network=network)
    pi.until_says("ready with")
    if network:
        wait_until(lambda: len(set(subscriber.steps())) > before + 20, timeout_s=PATIENCE_S, what="20 new steps")
    else:
        time.sleep(30.0)  # at eight times the speed of a walk, or as fast as the emulation can
    time.sleep(chance.uniform(0.0, 5.0))
    pi.cut_power()
    time.sleep(1.0)  # what the broker has may still be on its way to us
    return set(subscriber.steps())


def check_books(subscriber: Subscriber, device: str, total: int) -> None:
    """Check that no run has a hole, and that the total that was published never went down and is what was received."""
    runs: dict[str, list[int]] = defaultdict(list)
    for boot_id, seq in sorted(set(subscriber.steps())):
        runs[boot_id].append(seq)
    for boot_id, seqs in runs.items():
        assert seqs == list(range(1, len(seqs) + 1)), f"run {boot_id} has holes"
    published = [int(m.payload) for m in subscriber.on("steps") if f"/{device}/" in m.topic]
    assert published == sorted(published)
    assert published[-1] == total == sum(map(len, runs.values()))
