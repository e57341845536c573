"""Raspberry Pis that are folders: real ARM programs under qemu-user, reached over a real sshd."""

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
# qemu's default, "max", gives wrong int8 results in LiteRT (qemu 7.2); the processors of real boards give right ones.
_QEMU = {"arm64": ("qemu-aarch64", "cortex-a72"), "armhf": ("qemu-arm", "cortex-a7")}


@contextmanager
def raspberry_pi(folder: Path, arch: str = "arm64") -> Iterator[Sshd]:
    """Mount what the root folder of ``arm64`` or ``armhf`` needs, and let ssh sessions run inside it."""
    machines.require_root()
    root = STAND_INS / arch
    machines.require((root / ".complete").exists(), f"needs a root folder: tests/devices/stand_ins/arm {arch} {root}")
    emulator, cpu = _QEMU[arch]
    with ExitStack() as stack:
        stack.enter_context(_programs_for(emulator))
        stack.enter_context(_mounted("-t", "proc", "proc", root / "proc"))
        stack.enter_context(_mounted("--bind", "/dev", root / "dev"))
        stack.enter_context(_mounted("--bind", root / "opt/cpuinfo", root / "proc/cpuinfo"))
        board = stack.enter_context(
            machines.sshd(folder, {"QEMU_CPU": cpu, "PYTHONPATH": "/opt/site"}, f"ChrootDirectory {root}\n")
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
def _programs_for(emulator: str) -> Iterator[None]:
    """Let the kernel start ARM programs through qemu, as the package's own file says; undone afterwards."""
    with ExitStack() as stack:
        if not (_BINFMT / "register").exists():
            stack.enter_context(_mounted("-t", "binfmt_misc", "none", _BINFMT))
        entry = _BINFMT / emulator
        if not entry.exists():
            (_BINFMT / "register").write_bytes(Path(f"/usr/lib/binfmt.d/{emulator}.conf").read_bytes())
            stack.callback(entry.write_text, "-1")
        yield
