"""The first and only process tree inside the User-Mode-Linux: mounts what Python needs, runs one function, powers off.

tests/uml/host.py starts it, as the kernel's init, with the environment FOOTFALL_JOB (the job's directory on the host).
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

MOUNTS = (
    ("proc", "/proc", "proc", ""),
    ("sysfs", "/sys", "sysfs", ""),
    ("devtmpfs", "/dev", "devtmpfs", ""),
    ("tmpfs", "/run", "tmpfs", ""),
    ("tmpfs", "/mnt", "tmpfs", ""),
)
OUTPUT = Path("/mnt/job")
POWER_OFF = 0x4321FEDC
"""LINUX_REBOOT_CMD_POWER_OFF of reboot(2)."""


def main() -> None:
    """Run the job in job.json; its result, or what went wrong, becomes result.json beside it."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        for what, where, kind, options in MOUNTS:
            _mount(libc, what, where, kind, options)
        OUTPUT.mkdir()
        _mount(libc, "none", str(OUTPUT), "hostfs", os.environ["FOOTFALL_JOB"])
        os.environ |= {"TMPDIR": "/mnt", "HOME": "/mnt", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        console = os.open("/mnt/job/console", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(console, 1)
        os.dup2(console, 2)
        job = json.loads((OUTPUT / "job.json").read_text(encoding="utf-8"))
        result = getattr(importlib.import_module(job["module"]), job["function"])(**job["arguments"])
        answer = {"result": result}
    except BaseException:  # noqa: BLE001  whatever it is, the host has to hear of it
        answer = {"error": traceback.format_exc()}
        print(answer["error"], file=sys.stderr)  # if there is no OUTPUT, the kernel's log will hold it
    (OUTPUT / "result.json").write_text(json.dumps(answer), encoding="utf-8")
    sys.stdout.flush()
    libc.sync()
    libc.reboot(POWER_OFF)


def _mount(libc: ctypes.CDLL, what: str, where: str, kind: str, options: str) -> None:
    if libc.mount(what.encode(), where.encode(), kind.encode(), 0, options.encode()) != 0:
        number = ctypes.get_errno()
        if number == errno.EBUSY:  # the kernel has mounted it by itself
            return
        raise OSError(number, f"mount {kind} on {where}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
