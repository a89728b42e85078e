"""The faults: each is begun, held for a while, and undone."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.chaos.bench import Bench

KEEPALIVE_GIVES_UP_S = 12.0


def _hold(random: Random, least_s: float, most_s: float) -> None:
    time.sleep(random.uniform(least_s, most_s))


def broker_killed(bench: Bench, random: Random) -> None:
    """SIGKILL, and a new one after a while."""
    bench.kill_broker()
    _hold(random, 0.0, 1.0)
    bench.restart_broker()


def broker_hung(bench: Bench, random: Random) -> None:
    """SIGSTOP: its kernel still takes bytes, nobody reads them."""
    bench.broker.signal(signal.SIGSTOP)
    _hold(random, 0.1, 2.0)
    bench.broker.signal(signal.SIGCONT)


def packets_dropped(bench: Bench, random: Random) -> None:
    """Every packet is swallowed: nobody is told anything."""
    assert bench.network is not None
    bench.network.drop()
    _hold(random, 0.1, 2.5)
    bench.network.heal()


def packets_rejected(bench: Bench, random: Random) -> None:
    """Reset everything, as a firewall does."""
    assert bench.network is not None
    bench.network.reject()
    _hold(random, 0.1, 1.0)
    bench.network.heal()


def cable_unplugged(bench: Bench, random: Random) -> None:
    """Take the link down."""
    assert bench.network is not None
    bench.network.unplug()
    _hold(random, 0.1, 2.0)
    bench.network.heal()


def delayed(bench: Bench, random: Random) -> None:
    """Everything takes longer, acknowledgements too."""
    bench.proxy.delay_s = random.uniform(0.05, 0.8)
    _hold(random, 0.5, 2.0)
    bench.proxy.heal()


def throttled(bench: Bench, random: Random) -> None:
    """Let a few hundred bytes a second pass."""
    bench.proxy.bytes_per_s = random.randrange(100, 4000)
    _hold(random, 0.5, 2.0)
    bench.proxy.heal()


def cut_in_mid_packet(bench: Bench, random: Random) -> None:
    """Reset after some more bytes, anywhere in a packet of either direction."""
    for _ in range(random.randrange(1, 4)):
        bench.proxy.cut_after = random.randrange(1, 600)
        _hold(random, 0.2, 0.6)
    bench.proxy.heal()


def half_open(bench: Bench, random: Random) -> None:
    """Cut the broker's side off without telling the daemon; sometimes its own keepalive has to tell it."""
    bench.proxy.orphan_all()
    if random.random() < 0.15:
        deadline_s = time.monotonic() + KEEPALIVE_GIVES_UP_S
        while bench.proxy.connections and time.monotonic() < deadline_s:
            time.sleep(0.05)
    else:
        _hold(random, 0.1, 2.0)
    bench.proxy.reset_all()


def stalled(bench: Bench, random: Random) -> None:
    """Let nothing move, and then everything at once."""
    bench.proxy.stalled = True
    _hold(random, 0.2, 2.5)
    bench.proxy.heal()


def daemon_killed(bench: Bench, random: Random) -> None:
    """SIGKILL at a random instant."""
    _hold(random, 0.0, 0.3)
    bench.kill()


def daemon_stopped(bench: Bench, random: Random) -> None:
    """SIGTERM at a random instant: what it stores and sends on its way out."""
    _hold(random, 0.0, 0.3)
    bench.stop()


def disk_full(bench: Bench, random: Random) -> None:
    """No byte more for a while; sometimes the daemon is killed meanwhile."""
    if not bench.on_tmpfs:
        bench.limit_file_size(1)
        _hold(random, 0.3, 2.0)
        bench.limit_file_size(None)
        return
    filler = bench.disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
    except OSError:
        pass
    with filler.open("r+b") as file:
        file.truncate(max(0, filler.stat().st_size - random.choice((0, 4096, 8192, 16384))))
    _hold(random, 0.3, 2.0)
    if random.random() < 0.2:
        bench.kill()
    filler.unlink()


def clock_stepped(bench: Bench, random: Random) -> None:
    """Set the wall clock on or back, by a second up to a day."""
    bench.step_clock(random.choice((-1.0, 1.0)) * random.choice((1.0, 60.0, 3600.0, 86_400.0)) * random.random())
    _hold(random, 0.0, 0.3)


NETWORK = (packets_dropped, packets_rejected, cable_unplugged)
ALL: tuple[Callable[[Bench, Random], None], ...] = (
    broker_killed,
    broker_hung,
    *NETWORK,
    delayed,
    throttled,
    cut_in_mid_packet,
    half_open,
    stalled,
    daemon_killed,
    daemon_stopped,
    disk_full,
    clock_stepped,
)


def plan(count: int, random: Random, *, with_network: bool) -> list[Callable[[Bench, Random], None]]:
    """Return so many faults in random order, every kind about equally often."""
    kinds = [one for one in ALL if with_network or one not in NETWORK]
    order = [kinds[number % len(kinds)] for number in range(count)]
    random.shuffle(order)
    return order
