"""The `footfall` command: parses the line, runs one command, turns every error into one line and an exit code."""

from __future__ import annotations

import argparse
import io
import math
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edge import __version__
from edge.errors import FootfallError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
MOST_SECONDS = 7 * 86400.0
COMMANDS = {
    "run": "edge.daemon",
    "replay": "edge.commands.replay",
    "evaluate": "edge.commands.evaluate",
    "check-config": "edge.commands.check_config",
    "bench": "edge.commands.bench",
    "doctor": "edge.commands.doctor",
    "record": "edge.commands.record",
    "simulate-fleet": "edge.commands.simulate_fleet",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 fine, 1 the work failed, 2 bad usage or bad input."""
    parser = _parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    arguments = parser.parse_args(argv)
    set_up_output()
    try:
        # A command imports only what it needs: the daemon is lighter without the others.
        command = import_module(COMMANDS[arguments.command]).command
        # Until here Ctrl-C ends the process (edge.start); the daemon goes on like that until it listens to signals.
        if arguments.command != "run" and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = command(arguments)
        sys.stdout.flush()
    except FootfallError as error:
        print(f"footfall {arguments.command}: {_one_line(error)}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        # `footfall replay … | head`: the reader has seen enough, and Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        print(f"footfall {arguments.command}: cannot go on: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return int(status)


def set_up_output() -> None:
    """Let a terminal that cannot show a character show a stand-in, and a missing one swallow everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _one_line(error: FootfallError) -> str:
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="footfall", description="Counts steps: IMU in, one MQTT event per step out.")
    parser.add_argument("--version", action="version", version=f"footfall {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the daemon: sensor to MQTT until stopped")
    _add_config(run)

    replay = commands.add_parser("replay", help="play recordings through the daemon's own pipeline")
    replay.add_argument("recordings", nargs="+", metavar="FILE", help=".npz, .csv or .csv.gz recordings, or folders")
    _add_config(replay)
    _add_model(replay)
    replay.add_argument("--speed", default="max", help="'max' (default), or a factor of real time such as 1.0")
    replay.add_argument("--json", action="store_true", help="one JSON object per step, then a summary per file")

    evaluate = commands.add_parser("evaluate", help="score the model on labelled recordings")
    evaluate.add_argument("recordings", nargs="+", metavar="DIR|FILE", help="labelled recordings, or folders of them")
    _add_config(evaluate)
    _add_model(evaluate)
    evaluate.add_argument("--json", action="store_true", help="the figures for programs")
    evaluate.add_argument("--report", type=Path, metavar="DIR", help="also write DIR/report.md with pictures")
    evaluate.add_argument("--rotate", type=_seed, metavar="SEED", help="turn each recording as if mounted at random")

    check = commands.add_parser("check-config", help="name every error of a config file at once")
    check.add_argument("config", type=Path, metavar="F", help="the file, for instance config.yaml")

    bench = commands.add_parser("bench", help="measure this machine: time and memory, each as a ratio to its floor")
    _add_config(bench)
    _add_model(bench)
    bench.add_argument("--json", action="store_true", help="the figures for programs")
    _add_doctor_and_record(commands)
    _add_fleet(commands.add_parser("simulate-fleet", help="many light devices against a broker, for load tests"))
    return parser


def _add_doctor_and_record(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="why does it not work? bus, sensor, model, broker, clock, disk")
    _add_config(doctor, "/etc/footfall/config.yaml if it is there")
    doctor.add_argument("--json", action="store_true", help="one JSON object per finding")
    doctor.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="N", help="how long to watch the sensor (default 10, 0: not)"
    )

    record = commands.add_parser("record", help="raw IMU data from the sensor to a recording file")
    record.add_argument("out", type=Path, metavar="OUT", help="a new file that ends in .npz, .csv or .csv.gz")
    record.add_argument("--seconds", type=_seconds, required=True, metavar="N", help="how long")
    record.add_argument(
        "--label", action="append", default=[], metavar="TEXT", help="what it shows: walk, or placement=pocket"
    )
    record.add_argument("--force", action="store_true", help="replace OUT if it exists")
    _add_config(record)


def _seconds(text: str) -> float:
    """Parse a duration: 0 to 7 days."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; allowed: 0 to {MOST_SECONDS:g} seconds")
    return seconds


def _seed(text: str) -> int:
    """Parse a seed: a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; allowed: a whole number of 0 or more") from None


def _add_fleet(fleet: argparse.ArgumentParser) -> None:
    fleet.add_argument("--devices", type=int, default=100, metavar="N", help="default 100")
    fleet.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="default 60; then what waits is delivered"
    )
    fleet.add_argument(
        "--broker", action="append", metavar="HOST:PORT", help="again for each node (default localhost:1883)"
    )
    fleet.add_argument(
        "--period-s", type=float, default=10.0, metavar="S", help="between two batches of a device (default 10)"
    )
    fleet.add_argument(
        "--connect-within-s",
        type=float,
        metavar="S",
        help="within which devices connect (20, or a quarter of --seconds)",
    )
    fleet.add_argument(
        "--outages-per-h", type=float, default=0.0, metavar="X", help="of each device's network (default 0)"
    )
    fleet.add_argument("--base-topic", default="footfall", metavar="TOPIC", help="default footfall")
    fleet.add_argument("--username", metavar="NAME")
    fleet.add_argument("--password-file", type=Path, metavar="F")
    fleet.add_argument("--ca-file", type=Path, metavar="F", help="TLS with this CA")
    fleet.add_argument("--seed", type=int, default=1)
    fleet.add_argument("--truth", type=Path, metavar="F", help="gets what each device made, as JSON")
    fleet.add_argument("--json", action="store_true", help="the figures for programs")


def _add_config(parser: argparse.ArgumentParser, default: str = "every key at its default") -> None:
    parser.add_argument("--config", type=Path, metavar="F", help=f"config file (default: {default})")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="M", help="a .tflite to use instead of the config's model.path")


if __name__ == "__main__":
    sys.exit(main())
