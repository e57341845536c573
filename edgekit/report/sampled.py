"""Test samples on which an artifact answers otherwise than the float model, as data. Part of ``report.json``."""

from __future__ import annotations

from pydantic import Field

from edgekit.report.measured import Model

_PICTURE = r"^(data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+)?$"


class SeenBox(Model):
    """One detection, corners in pixels of the sample."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    score: float
    shared: bool = Field(description="whether the other model finds it too: same class, IoU of 0.5 or more")


class Disagreement(Model):
    """One test sample as both see it."""

    sample: str
    picture: str = Field(default="", pattern=_PICTURE, description="a small data URI; empty where it is no image")
    width: int = Field(default=0, description="of the sample in pixels, to which the boxes refer")
    height: int = 0
    gap: float = Field(description="what samples are ranked by: confidence that one has and the other lacks")
    before: list[SeenBox] = Field(default=[], description="what the float model is sure of; detection only")
    after: list[SeenBox] = Field(default=[], description="what the artifact is sure of")
    truth: str = Field(default="", description="the label; classification only")
    answer_before: str = Field(default="", description="the float model's class and its probability")
    answer_after: str = ""


class Disagreements(Model):
    """How often an artifact answers otherwise than the float model, and the samples where it does most."""

    samples: int = Field(description="test samples that both answered")
    differing: int = Field(description="samples with another class, or with a box that only one of the two finds")
    lost: int = Field(description="labels (boxes, or classes of samples) that only the float model gets right")
    won: int = Field(description="labels that only the artifact gets right")
    shown: list[Disagreement]
