"""A Raspberry Pi 4 that is a folder: real ARM64 programs under qemu-user, reached over a real sshd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import machines
from machines import Sshd

STAND_INS = Path(os.environ.get("EDGEKIT_STAND_INS", "/opt/edgekit-stand-ins"))
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
# qemu's default, "max", gives wrong int8 results in LiteRT (qemu 7.2); the models of real boards give right ones.
_CPU = "cortex-a72"


@contextmanager
def raspberry_pi(folder: Path) -> Iterator[Sshd]:
    """Mount what the root folder needs, and let ssh sessions run inside it."""
    machines.require_root()
    root = STAND_INS / "arm64"
    machines.require((root / ".complete").exists(), f"needs an ARM64 root: tests/devices/stand_ins/arm64 {root}")
    with ExitStack() as stack:
        stack.enter_context(_programs_of_arm64())
        stack.enter_context(_mounted("-t", "proc", "proc", root / "proc"))
        stack.enter_context(_mounted("--bind", "/dev", root / "dev"))
        stack.enter_context(_mounted("--bind", root / "opt/cpuinfo", root / "proc/cpuinfo"))
        board = stack.enter_context(
            machines.sshd(folder, {"QEMU_CPU": _CPU, "PYTHONPATH": "/opt/site"}, f"ChrootDirectory {root}\n")
        )
        board.python = "/usr/bin/python3"
        yield board


@contextmanager
def _mounted(*words: str | Path) -> Iterator[None]:
    subprocess.run(["mount", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", words[-1]], check=True)


@contextmanager
def _programs_of_arm64() -> Iterator[None]:
    """Let the kernel start ARM64 programs through qemu, as the package's own file says; undone afterwards."""
    with ExitStack() as stack:
        if not (_BINFMT / "register").exists():
            stack.enter_context(_mounted("-t", "binfmt_misc", "none", _BINFMT))
        entry = _BINFMT / "qemu-aarch64"
        if not entry.exists():
            (_BINFMT / "register").write_bytes(_FORMAT.read_bytes())
            stack.callback(entry.write_text, "-1")
        yield
