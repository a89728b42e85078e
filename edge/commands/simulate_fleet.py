"""`footfall simulate-fleet`: light simulated devices against a broker, for load tests; needs no model and no sensor."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

from edge.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

MAX_DEVICES = 60_000
DEFAULT_PORT = 1883
MAX_TOPIC_CHARACTERS = 200
CONNECT_WITHIN_S = 20.0
TCP_TIMEOUT_S = 5.0
_BROKER = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>\d{1,5}))?")


def command(arguments: Namespace) -> int:
    """Run the fleet and print its figures; returns 0 if every step was acknowledged, else 1."""
    try:
        from fleet.simulate import Load, simulate  # noqa: PLC0415  not part of an installed device
        from fleet.simulated_device import Settings  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("simulate-fleet is not part of the device's package: run it from a checkout") from error
    if arguments.connect_within_s is None:
        arguments.connect_within_s = min(CONNECT_WITHIN_S, arguments.seconds / 4)
    _check(arguments)
    hosts = [_address(text) for text in arguments.broker or ["localhost"]]
    _check_truth(arguments.truth)
    settings = Settings(
        hosts=hosts,
        base_topic=arguments.base_topic,
        period_s=arguments.period_s,
        connect_within_s=arguments.connect_within_s,
        outages_per_h=arguments.outages_per_h,
        username=arguments.username,
        password=_password(arguments.password_file),
        tls=_tls(arguments.ca_file),
    )
    _reach(hosts)
    figures = simulate(Load(arguments.devices, arguments.seconds, arguments.seed), settings, arguments.truth)
    print(json.dumps(figures) if arguments.json else table(figures))
    if not figures["connections"]:
        named = " ".join(arguments.broker or ["localhost"])
        print(f"footfall simulate-fleet: no device got through to {named}: is a broker there?", file=sys.stderr)
    return 0 if figures["steps_acked"] == figures["steps_made"] else 1


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people, one a line."""
    shown = {key: value for key, value in figures.items() if key != "errors"}
    lines = [f"{key.replace('_', ' '):24s} {'-' if value is None else value}" for key, value in shown.items()]
    lines += [f"{'error':24s} {count} x {reason}" for reason, count in sorted(figures["errors"].items())]
    return "\n".join(lines)


def _check(arguments: Namespace) -> None:
    limits = (
        ("--devices", arguments.devices, 1, MAX_DEVICES),
        ("--seconds", arguments.seconds, 1, 86_400),
        ("--period-s", arguments.period_s, 0.1, 3600),
        ("--connect-within-s", arguments.connect_within_s, 0, 3600),
        ("--outages-per-h", arguments.outages_per_h, 0, 3600),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise UsageError(f"{name} is {value:g}; allowed: {low:g} to {high:g}")
    topic = arguments.base_topic
    odd = not topic.isprintable() or set("+#") & set(topic) or topic.startswith(("/", "$"))
    if odd or not 0 < len(topic) <= MAX_TOPIC_CHARACTERS:
        raise UsageError(
            f"--base-topic is {topic[:60]!r}; allowed: at most {MAX_TOPIC_CHARACTERS} characters without + and #, "
            "such as footfall"
        )


def _address(text: str) -> tuple[str, int]:
    match = _BROKER.fullmatch(text)
    if match is None or not 0 < int(match["port"] or DEFAULT_PORT) < 65536:
        raise UsageError(f"--broker is {text!r}; allowed: HOST or HOST:PORT, an IPv6 address as [::1]:1883")
    return match["ipv6"] or match["host"], int(match["port"] or DEFAULT_PORT)


def _check_truth(path: Path | None) -> None:
    """Raise UsageError if the file could not be written: minutes later the figures would be lost with it."""
    if path is None:
        return
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--truth {path} cannot be written: {error.strerror}") from error


def _reach(hosts: Sequence[tuple[str, int]]) -> None:
    """Raise UsageError unless one of them listens: a minute of trying would tell no more."""
    reasons = []
    for host, port in hosts:
        try:
            socket.create_connection((host, port), TCP_TIMEOUT_S).close()
        except OSError as error:
            reasons.append(f"{host}:{port} ({error.strerror or error})")
        else:
            return
    raise UsageError(f"no broker can be reached at {', '.join(reasons)}; name one with --broker HOST:PORT")


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--password-file {path} cannot be read: {error}") from error


def _tls(ca_file: Path | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=os.fspath(ca_file))
    except OSError as error:
        raise UsageError(f"--ca-file {ca_file} cannot be used: {error}") from error
