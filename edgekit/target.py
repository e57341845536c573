"""What a board is: facts from targets/*.toml, each file with its source links.

A target lists its artifacts in preference order, first the one to ship; facts only, no conditionals.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.errors import RecipeError

Format = Literal["tflite", "onnx"]
Scheme = Literal["", "cpu", "tensorrt"]


class Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Output(Facts):
    """One kind of artifact this target takes."""

    format: Format
    precision: Literal["float32", "float16", "int8", "int8-weights"]
    scheme: Scheme = Field("", description="onnx int8: how Q/DQ is written; cpu (u8 x s8) or tensorrt (symmetric s8)")
    runtime: str = Field(description="what executes it there")
    delegate: str = ""
    why: str


class Device(Facts):
    kind: Literal["ssh", "adb", "browser", "local"]
    note: str = ""


class Limits(Facts):
    memory_mb: float | None = None


class Target(Facts):
    """One board, phone or browser."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    title: str
    family: Literal["raspberry-pi", "jetson", "phone", "browser", "other"]
    cpu: str
    threads: int = Field(ge=1)
    outputs: tuple[Output, ...] = Field(min_length=1, description="in preference order: the first is shipped")
    device: Device
    limits: Limits = Limits()
    host_comparable: bool = Field(
        description="whether the same runtime family on this host's CPU says anything about the speed-up there"
    )
    lint: tuple[str, ...] = Field((), description="what its runtime refuses, as rules of edgekit.convert.lint")
    refuses: tuple[str, ...] = Field(
        (), description="ONNX operators that its runtime has no form of, by its own sources"
    )
    sources: tuple[str, ...] = Field(min_length=1)

    @property
    def primary(self) -> Output:
        return self.outputs[0]


def folder() -> Path:
    """Return where the shipped targets lie: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "targets"
    return inside if inside.is_dir() else package.parent / "targets"


def names() -> list[str]:
    return sorted(path.stem for path in folder().glob("*.toml"))


def load(name: str) -> Target:
    """Read a shipped target by name, or a user's own file by its path (it ends in .toml)."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise RecipeError(f"There is no target file at {path}.")
    else:
        path = folder() / f"{name}.toml"
        if name not in names():
            close = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
            raise RecipeError(
                f"There is no target named {name!r}." + (f" Did you mean {close[0]!r}?" if close else ""),
                "List them with: edgekit targets. Your own board: --target ./my-board.toml",
            )
    try:
        return Target.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise RecipeError(
            f"{path} is not a valid target:\n" + "\n".join(lines),
            "Start from a copy of a shipped one: edgekit targets",
        ) from error
