"""The `footfall` script begins here, with as few imports as can be."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run one command; Ctrl-C ends it without a word as long as it is being imported, and as it likes from then on."""
    # As the system would: an exception in the middle of an import is printed in places where nobody can catch it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edge.__main__ import main as run  # noqa: PLC0415

    return run()


if __name__ == "__main__":
    sys.exit(main())
