"""Lock a board's clocks for as long as a run lasts; what was before is put back whatever happens to the run.

The commands that restore lie in the run's folder on the device, where its keeper runs them before it removes the
folder: also when the connection breaks, when this side is killed, and, after a power cut, before the next run.
``EDGEKIT_SYSFS`` replaces the root folder that /sys is found in.
"""

from __future__ import annotations

import os
import shlex
from typing import Any, Protocol

from edgekit.devices.connection import last_words
from edgekit.errors import ClocksError, DeviceError

RESTORE = "restore"
ROOT = "EDGEKIT_SYSFS"
_REFUSED, _NONE = 77, 79


class Board(Protocol):
    """What this needs of a device."""

    name: str

    @property
    def run_folder(self) -> str: ...

    def run(self, script: str) -> Any: ...


def lock(board: Board) -> str:
    """Set the clocks to their highest and return what was before, for the report.

    Raises ClocksError where that is not allowed there, or where there is nothing to lock.
    """
    folder = shlex.quote(board.run_folder)
    done = board.run(_LOCK.format(folder=folder, root=shlex.quote(os.environ.get(ROOT, "")), restore=RESTORE))
    if done.status == _REFUSED:
        raise ClocksError(
            f"{board.name}: it does not let you lock its clocks{last_words(done.stderr[-2:])}",
            "Log in as root there, or allow this user sudo without a password; or leave --lock-clocks away: the report "
            "then says what the clocks did.",
        )
    if done.status == _NONE:
        raise ClocksError(f"{board.name}: it has no clocks that can be locked.", "Leave --lock-clocks away.")
    if done.status:
        raise DeviceError(f"{board.name}: cannot lock its clocks{last_words(done.stderr[-2:])}")
    return "; ".join(done.stdout.decode("utf-8", "replace").split("\n")).strip("; ")


# A governor's name is written only after the line that brings the old one back.
_LOCK = """
cd {folder} || exit 1
root={root}
as=
[ "$(id -u)" = 0 ] || as="sudo -n"
if clocks=$(command -v jetson_clocks); then
    $as "$clocks" --store "$PWD/clocks" >&2 || exit 77
    echo "$as '$clocks' --restore '$PWD/clocks'" > {restore}
    $as "$clocks" >&2 || exit 77
    echo "jetson_clocks, as stored before"
    exit 0
fi
any=
for governor in "$root"/sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do
    [ -e "$governor" ] || continue
    any=1
    before=$(cat "$governor")
    echo "echo '$before' | $as tee '$governor'" >> {restore}
    echo performance | $as tee "$governor" > /dev/null || exit 77
    [ "$(cat "$governor")" = performance ] || exit 77
    policy=${{governor%/*}}
    echo "${{policy##*/}} performance, before $before"
done
[ "$any" ] || exit 79
"""
