"""The recipe's devices in a build: which target is measured where, and its figures beside the host's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from edgekit.devices import open_device
from edgekit.errors import RecipeError
from edgekit.pipeline import Outcome
from edgekit.recipe import Recipe
from edgekit.report.schema import DeviceRun, Variant
from edgekit.target import Target

_EXAMPLE = "e.g. --device raspberry-pi-4=ssh://pi@raspberrypi.local"


def assign(recipe: Recipe, targets: Sequence[Target], wanted: Iterable[str]) -> Recipe:
    """Return the recipe with ``wanted`` devices, each ``TARGET=ADDRESS``, or ``ADDRESS`` where one target fits.

    Raises RecipeError for a target nobody named, an address no device has, and one that fits several targets.
    """
    devices = dict(recipe.devices)
    known = {target.name for target in targets} | set(recipe.targets.names)
    for text in wanted:
        name, separator, address = text.partition("=")
        if not separator or "/" in name or ":" in name:
            name, address = _fitting(text, targets), text
        devices[name] = address
    for name, address in devices.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise RecipeError(f"devices: {name!r} is none of this build's targets{meant}", f"they are {sorted(known)}")
        open_device(address)
    return recipe.model_copy(update={"devices": devices})


def with_device(variants: Sequence[Variant], emits: Sequence[str], step: str | None, outcome: Outcome) -> list[Variant]:
    """Return the rows with the device's figures in front and the host's beside them.

    ``emits`` is the name of each row's job. A file that fails on the device is not scored: it cannot ship.
    """
    entry = outcome.entries.get(step) if step else None
    if entry is None:
        return list(variants)
    return [_one(variant, emit, entry.result) for variant, emit in zip(variants, emits, strict=True)]


def _one(variant: Variant, emit: str, result: dict[str, Any]) -> Variant:
    if message := result["failed"].get(emit):
        return variant.model_copy(
            update={
                "accuracy": None, "cause": f"fails on the device: {message.splitlines()[0]}", "latency": None,
                "latency_note": "it fails on the device", "host_latency": variant.latency,
            }
        )  # fmt: skip
    if emit not in result["runs"]:
        return variant
    run = DeviceRun.model_validate(result["runs"][emit])
    if run.latency is None:
        return variant.model_copy(update={"device": run})
    return variant.model_copy(
        update={"device": run, "latency": run.latency, "latency_note": "", "host_latency": variant.latency}
    )


def _fitting(address: str, targets: Sequence[Target]) -> str:
    kind = address.partition(":")[0]
    fitting = [target.name for target in targets if target.device.kind == kind]
    if len(fitting) != 1:
        which = f"fits {', '.join(fitting)}" if fitting else "fits none of this build's targets"
        raise RecipeError(f"--device {address} {which}", f"say which: TARGET=ADDRESS, {_EXAMPLE}")
    return fitting[0]
