"""The real command line in a process of its own, under limits that an honest input does not come near."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
SECONDS = 60  # of processor time: generous, for the machines that run this are slow and busy
MEMORY = 4 * 2**30  # of address space
LONGEST_MESSAGE = 60_000  # characters on stderr


class Done(NamedTuple):
    """What a command left: `seconds` of processor time, and `peak` bytes of memory."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int

    @property
    def codes(self) -> set[str]:
        """The codes of the errors on stderr."""
        return {line[6:11] for line in self.err.splitlines() if line.startswith("error[")}


def start(*arguments: str, cwd: Path, memory: int = MEMORY, file_size: int | None = None) -> subprocess.Popen[bytes]:
    """`archc arguments` under limits; its output goes to the files .out and .err of `cwd`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        for number in (signal.SIGINT, signal.SIGTERM):  # a suite in the background of a shell ignores them
            signal.signal(number, signal.SIG_DFL)

    with (cwd / ".out").open("wb") as out, (cwd / ".err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "archc", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=limit,
        )  # fmt: skip


def archc(*arguments: str, cwd: Path, **limits: int) -> Done:
    """Run a command to its end."""
    process = start(*arguments, cwd=cwd, **limits)
    deadline = time.monotonic() + 10 * SECONDS
    peak = 0
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        peak = max(peak, resident(process.pid))
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    out, err = ((cwd / name).read_text(encoding="utf-8") for name in (".out", ".err"))
    return Done(process.returncode, out, err, usage.ru_utime + usage.ru_stime, peak)


def resident(pid: int) -> int:
    """The most memory that a running process has held so far.

    What `wait4` tells counts the memory of the process that forked it, which may be a test runner with torch.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found.group(1)) * 1024 if found and b"archc" in command.split(b"\0")[:3] else 0


def well(done: Done, seconds: float = 20, peak: int = 700 * 2**20) -> Done:
    """`done`, which ended promptly, in bounded memory, without a traceback, and said nothing to the terminal but text."""
    assert done.code in (0, 1, 2), (done.code, done.err[-500:])
    assert "Traceback" not in done.err and "internal error" not in done.err, done.err[-500:]
    assert len(done.err) <= LONGEST_MESSAGE, len(done.err)
    assert all(char == "\n" or char.isprintable() for char in done.err + done.out), ascii(done.err[:500])
    told = done.codes or '"code": "E' in done.out or "is not formatted" in done.err or "is not what" in done.err
    assert done.code == 0 or told, done.err[:500]
    assert done.seconds < seconds and done.peak < peak, (done.seconds, done.peak)
    return done
