"""The real daemon, `footfall run`, with two things changed that a test cannot wait for or must not touch.

    python -m tests.chaos.daemon OFFSET_FILE --config F

- Its wall clock is that of the machine plus an offset that the test changes while it runs: the machine's clock belongs
  to everybody on it, a time namespace has none of its own, and libfaketime 0.9.10 makes time.sleep() of Python 3.11
  fail with EINVAL. Everything in edge/ asks time.time(), which is what is replaced.
- The pause before it connects again ends after 2 s instead of 60: otherwise most faults would meet no connection.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

from edge.__main__ import main
from edge.mqtt import Backoff
from edge.publisher import Publisher

RECONNECT = Backoff(base_s=0.25, cap_s=2.0)


def run(offset_file: Path, arguments: list[str]) -> int:
    """Run until the daemon ends."""
    with offset_file.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 8)
    true_time = time.time
    time.time = lambda: true_time() + struct.unpack_from("d", shared)[0]
    defaults = Publisher.__init__.__kwdefaults__
    assert defaults is not None
    assert isinstance(defaults["backoff"], Backoff)
    defaults["backoff"] = RECONNECT
    return main(["run", *arguments])


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
