"""Every error a user can meet, and the exit code it ends in.

EdgekitError
├── RecipeError        2   the command line, edgekit.toml or the data it names is wrong
├── DependencyError    3   a library or program is missing
├── UnsupportedError   4   this model cannot go where it was asked to go
│   └── MissingOpsError      a format has no form of some of its ops
├── StageError         5   a stage failed while running
├── DeviceError        6   the device could not be reached or died
│   ├── UnreachableError     no answer at its address, or no such device attached
│   ├── HostKeyError         it is not known, or not the machine it was
│   ├── UnauthorizedError    it lets nobody in with this key
│   ├── SeveralDevicesError  the address fits more than one
│   ├── NoSpaceError         its disk is full
│   ├── ClocksError          its clocks cannot be locked
│   ├── RuntimeMissingError  nothing there executes this format
│   ├── CrashedError         the program died there
│   ├── DroppedError         the connection was lost midway
│   └── TimedOutError        no answer in time
└── BudgetError        7   everything ran; a budget in the recipe was missed

70 is a bug in edgekit, 130 an interrupt; both are decided by the one catcher, in ``cli``.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class EdgekitError(Exception):
    """An expected failure: ``message`` says what, where and what was found; ``hint`` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(EdgekitError):
    exit_code = 2


class DependencyError(EdgekitError):
    exit_code = 3


class UnsupportedError(EdgekitError):
    exit_code = 4


class MissingOpsError(UnsupportedError):
    """``kinds``: the ops, by the names that the converter has for them; empty once it has crossed processes."""

    def __init__(self, message: str, hint: str = "", kinds: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.kinds = tuple(kinds)


class StageError(EdgekitError):
    exit_code = 5


class DeviceError(EdgekitError):
    exit_code = 6


class UnreachableError(DeviceError):
    pass


class HostKeyError(DeviceError):
    pass


class UnauthorizedError(DeviceError):
    pass


class SeveralDevicesError(DeviceError):
    pass


class NoSpaceError(DeviceError):
    pass


class ClocksError(DeviceError):
    pass


class RuntimeMissingError(DeviceError):
    pass


class CrashedError(DeviceError):
    pass


class DroppedError(DeviceError):
    pass


class TimedOutError(DeviceError):
    pass


class BudgetError(EdgekitError):
    exit_code = 7


ERRORS: dict[str, type[EdgekitError]] = {
    error.__name__: error
    for error in (
        RecipeError,
        DependencyError,
        UnsupportedError,
        StageError,
        DeviceError,
        BudgetError,
    )
}


def error_named(name: str) -> type[EdgekitError]:
    """Return the class of this name, which came from another process; StageError for one that is not ours."""
    finer = [kind for coarse in ERRORS.values() for kind in coarse.__subclasses__()]
    kinds = {**ERRORS, **{kind.__name__: kind for kind in finer}}
    return kinds.get(name, StageError)
