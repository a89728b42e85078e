"""Starts a module as a program that ends with its parent: `python -m converter.start PARENT MODULE ARGUMENTS`.

Whoever ends the converter with SIGKILL would otherwise leave TensorFlow at work for minutes.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def end_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent, of that process id, ends; Linux alone can."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before the kernel was asked.
        sys.exit("the converter has ended")


def _main() -> None:
    _, parent, module, *arguments = sys.argv
    end_with_parent(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
