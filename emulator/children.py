"""Child processes that never outlive the program that started them."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from emulator import EmulatorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

PR_SET_PDEATHSIG = 1
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin:/sbin:/opt/homebrew/sbin"
_libc = ctypes.CDLL(None)


def find_program(name: str, package: str) -> str:
    """Return the path of a program, also where the user's PATH lacks sbin; EmulatorError names its package."""
    path = shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        raise EmulatorError(f"{name} is not installed; install it with `sudo apt-get install {package}`")
    return path


def start(
    command: Sequence[str], *, stdout: int | IO[str] | None, stderr: int | IO[str] | None
) -> subprocess.Popen[str]:
    """Start a program that the terminal's Ctrl-C does not reach, and that ends when we do, however we end.

    The user's own FOOTFALL__ settings are kept from it: the caller says what it is to do.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")},
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509  one system call, no lock that another thread could hold
    )


def stop(process: subprocess.Popen[str], timeout_s: float = 8.0) -> int:
    """Ask a program to end, insist after `timeout_s`; return its exit status."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(timeout_s)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
