"""The step table in PostgreSQL: every step once, however often it arrives.

Rows go through a binary COPY into a temporary table and from there with ON CONFLICT DO NOTHING, one transaction a call:
on the machine at hand four times as fast as executemany (docs/fleet.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.rows import StepRow

SCHEMA = """
CREATE TABLE IF NOT EXISTS step (
    device_id text NOT NULL,
    boot_id uuid NOT NULL,
    seq bigint NOT NULL,
    ts timestamptz NOT NULL,
    confidence real NOT NULL,
    PRIMARY KEY (device_id, boot_id, seq)
);
CREATE TABLE IF NOT EXISTS refused (
    at timestamptz NOT NULL DEFAULT now(),
    topic text NOT NULL,
    payload bytea NOT NULL,
    reason text NOT NULL
);
"""
_STAGE = """
CREATE TEMP TABLE IF NOT EXISTS stage (device_id text, boot_id uuid, seq bigint, ts timestamptz, confidence real)
ON COMMIT DELETE ROWS
"""
_COPY = "COPY stage FROM STDIN (FORMAT BINARY)"
_TAKE = "INSERT INTO step SELECT * FROM stage ON CONFLICT DO NOTHING"
_KEEP_BYTES = 10_000


class Store:
    """One connection. Every method raises psycopg.Error; nothing of a failed call is kept."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn)
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('footfall schema'))")
            self._connection.execute(SCHEMA)
        self._connection.execute(_STAGE)
        self._connection.commit()

    def insert(self, rows: Sequence[StepRow], refused: Sequence[tuple[str, bytes, str]] = ()) -> int:
        """Store rows, and messages that could not be read as (topic, payload, reason); returns how many were new."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(_COPY) as copy:
                copy.set_types(["text", "uuid", "int8", "timestamptz", "float4"])
                for row in rows:
                    copy.write_row(row)
            cursor.execute(_TAKE)
            new: int = cursor.rowcount
            for topic, payload, reason in refused:
                # PostgreSQL's text cannot hold a NUL.
                cursor.execute(
                    "INSERT INTO refused (topic, payload, reason) VALUES (%s, %s, %s)",
                    (topic.replace("\0", "?"), payload[:_KEEP_BYTES], reason.replace("\0", "?")),
                )
        return new

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._connection.close()
