"""`footfall-convert`: the door to `converter.command`, so thin that Ctrl-C finds somebody to catch it at once."""

from __future__ import annotations

import signal
import sys

STOPPED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, 1 (the work failed), 2 (bad usage or input file) or 130 (stopped)."""
    try:
        for name in (signal.SIGTERM, signal.SIGHUP):
            # As Ctrl-C does: the TensorFlow process and the scratch folders go with this one.
            signal.signal(name, signal.default_int_handler)
        from converter import command  # noqa: PLC0415 - half a second of imports, in which Ctrl-C must not be a traceback

        return command.run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("footfall-convert: stopped; nothing was written", file=sys.stderr)
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
