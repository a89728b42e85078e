"""A simulated device: it makes steps, keeps each batch until the broker has acknowledged it, and loses its network."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge import payloads
from edge.mqtt import Backoff
from edge.outbox import OutboxRow
from fleet.light_mqtt import Link, dial

if TYPE_CHECKING:
    import random
    import ssl
    from array import array
    from collections.abc import Sequence

IN_FLIGHT = 4
"""Unacknowledged batches at a time, so that a broker that comes back is not flooded."""
ACK_TIMEOUT_S = 20.0
"""A connection that swallows batches for so long is half-open."""
KEEPALIVE_S = 120
STEP_INTERVAL_S = 0.55
WALKING_SHARE = 0.5
"""Of the periods, those in which somebody walks; the others send nothing, as real devices do."""
OFF_S = (5.0, 30.0)
BACKOFF = Backoff(base_s=0.5, cap_s=15.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """What all devices of a fleet share. hosts: brokers (host, port); outages_per_h: of each device's network."""

    hosts: Sequence[tuple[str, int]]
    base_topic: str = "footfall"
    period_s: float = 10.0
    connect_within_s: float = 20.0
    outages_per_h: float = 0.0
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Tally:
    """What the whole fleet has seen. ack_s: seconds from first sending a batch to its acknowledgement."""

    ack_s: array[float]
    reconnect_s: array[float]
    steps_made: int = 0
    steps_acked: int = 0
    batches_sent: int = 0
    batches_again: int = 0
    connected: int = 0
    connections: int = 0
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    payload: bytes
    steps: int
    packet_id: int = 0
    sent_s: float = 0.0


class SimulatedDevice:
    """One device; run() until its task is cancelled. Steps are made until stop_making() is called."""

    __slots__ = (
        *("boot_id", "device_id", "seq"),
        *("_link", "_lost_s", "_making", "_next_id", "_rng", "_settings", "_tally", "_topic", "_waiting"),
    )

    def __init__(self, number: int, settings: Settings, tally: Tally, rng: random.Random) -> None:
        self.device_id = f"sim-{number:05d}"
        self.boot_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self.seq = 0
        self._settings, self._tally, self._rng = settings, tally, rng
        self._topic = f"{settings.base_topic}/{self.device_id}/batch".encode()
        self._waiting: OrderedDict[int, _Batch] = OrderedDict()
        self._next_id = 0
        self._link: Link | None = None
        self._lost_s: float | None = None
        self._making = True

    @property
    def depth(self) -> int:
        """Batches that the broker has not acknowledged yet."""
        return len(self._waiting)

    def stop_making(self) -> None:
        """Make no more steps; what waits is still delivered."""
        self._making = False

    async def run(self) -> None:
        """Connect, publish, lose the connection, connect again."""
        maker = asyncio.create_task(self._make())
        try:
            await asyncio.sleep(self._rng.uniform(0.0, self._settings.connect_within_s))
            await self._stay_connected()
        finally:
            maker.cancel()
            if self._link is not None:
                self._link.close()

    async def _make(self) -> None:
        """Make a batch every period, connected or not."""
        await asyncio.sleep(self._rng.uniform(0.0, self._settings.period_s))
        while self._making:
            if self._rng.random() < WALKING_SHARE:
                self._keep(self._walk())
                self._offer()
            await asyncio.sleep(self._settings.period_s)

    def _walk(self) -> _Batch:
        count = max(1, round(self._settings.period_s / STEP_INTERVAL_S * self._rng.uniform(0.5, 1.0)))
        began_ms = round(1000.0 * (time.time() - count * STEP_INTERVAL_S))
        rows = [
            OutboxRow(
                total=self.seq + index,
                boot_id=self.boot_id,
                seq=self.seq + index,
                ts_ms=began_ms + round(1000.0 * index * STEP_INTERVAL_S),
                stored_s=0.0,
                confidence=0.9,
                cadence_spm=None,
            )
            for index in range(1, count + 1)
        ]
        self.seq += count
        self._tally.steps_made += count
        return _Batch(payloads.batch(rows, late=False), count)

    def _keep(self, batch: _Batch) -> None:
        self._next_id = self._next_id % 65535 + 1
        batch.packet_id = self._next_id
        self._waiting[self._next_id] = batch

    def _offer(self, *, anew: bool = False) -> None:
        """Send what waits, in order, as far as the window allows. anew: on a new connection nothing was sent yet."""
        if self._link is None:
            return
        now_s = time.monotonic()
        for batch in list(self._waiting.values())[:IN_FLIGHT]:
            if batch.sent_s and not anew:
                continue
            self._link.publish(self._topic, batch.payload, batch.packet_id, again=bool(batch.sent_s))
            self._tally.batches_again += bool(batch.sent_s)
            self._tally.batches_sent += 1
            batch.sent_s = batch.sent_s or now_s

    def _acked(self, packet_id: int) -> None:
        batch = self._waiting.pop(packet_id, None)
        if batch is not None:
            self._tally.steps_acked += batch.steps
            self._tally.ack_s.append(time.monotonic() - batch.sent_s)
            self._offer()

    async def _stay_connected(self) -> None:
        failures = self._rng.randrange(len(self._settings.hosts))  # each starts at another broker
        first = failures
        while True:
            host, port = self._settings.hosts[failures % len(self._settings.hosts)]
            try:
                self._link = await self._dial(host, port)
            except OSError as error:
                reason = f"{type(error).__name__}: {str(error)[:60]}"
                self._tally.errors[reason] = self._tally.errors.get(reason, 0) + 1
            else:
                self._tally.connected += 1
                self._tally.connections += 1
                if self._lost_s is not None:
                    self._tally.reconnect_s.append(time.monotonic() - self._lost_s)
                first = failures
                await self._hold(self._link)
                self._tally.connected -= 1
                self._link, self._lost_s = None, time.monotonic()
            failures += 1
            await asyncio.sleep(BACKOFF.delay_s(failures - first, self._rng.uniform))

    async def _dial(self, host: str, port: int) -> Link:
        settings = self._settings
        return await dial(
            *(host, port, self.device_id, self._acked),
            username=settings.username,
            password=settings.password,
            keepalive_s=KEEPALIVE_S,
            tls=settings.tls,
        )

    async def _hold(self, link: Link) -> None:
        """Keep one connection until it ends, hangs, or the network goes away."""
        self._offer(anew=True)
        opened_s = time.monotonic()
        rate_s = 3600.0 / self._settings.outages_per_h if self._settings.outages_per_h else float("inf")
        outage_s = opened_s + (self._rng.expovariate(1.0 / rate_s) if rate_s < float("inf") else rate_s)
        pinged_s = opened_s
        while not link.ended.is_set():
            try:
                async with asyncio.timeout(ACK_TIMEOUT_S / 4):
                    await link.ended.wait()
            except TimeoutError:
                now_s = time.monotonic()
                oldest = next(iter(self._waiting.values()), None)
                if oldest is not None and oldest.sent_s and now_s - max(oldest.sent_s, opened_s) > ACK_TIMEOUT_S:
                    link.abort()
                    return
                if now_s >= outage_s:
                    link.abort()
                    await asyncio.sleep(self._rng.uniform(*OFF_S))
                    return
                if now_s - pinged_s > KEEPALIVE_S / 2:
                    link.ping()
                    pinged_s = now_s
