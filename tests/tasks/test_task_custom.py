"""A task of the user's own: the examples of its documentation run, and what an adapter does wrong is said."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from project import edgekit
from tiny_tflite import write_add_relu

from edgekit import tasks
from edgekit.errors import RecipeError
from edgekit.tasks import custom

ADAPTER = """
import numpy as np
METRIC = "signs right"
def decode(outputs):
    return {"positive": outputs["sum"][0] > 0}
def score_samples(predictions, truth):
    return np.array([np.mean(p["positive"] == t) for p, t in zip(predictions, truth)])
"""


def examples() -> list[str]:
    """Return the two adapters that the module's documentation shows."""
    blocks = (custom.__doc__ or "").split("\n\n    import numpy as np\n")[1:]
    return [textwrap.dedent("    import numpy as np\n" + block.split("\n\nA tag")[0]) for block in blocks]


@pytest.mark.parametrize(
    ("number", "output", "truth", "value"),
    [
        (0, {"probabilities": np.array([[0.9, 0.2, 0.7]])}, np.array([[1, 0, 0]]), 2 / 3),
        (1, {"logits": np.eye(4)[None, :3]}, np.array([[0, 2, -1]]), 1 / 2),
    ],
    ids=["audio", "text"],
)
def test_the_documented_adapters(
    number: int, output: dict[str, np.ndarray], truth: np.ndarray, value: float, tmp_path: Path
) -> None:
    (tmp_path / "adapter.py").write_text(examples()[number])
    task = tasks.load("custom", tmp_path / "adapter.py")
    prediction = task.decode(output, {})
    score = task.score([prediction], truth, ())
    assert score.metric.endswith("right")
    assert score.value == pytest.approx(value)
    assert task.drop([prediction], [prediction], truth, (), 20, 0).points == 0
    assert task.agreement([prediction], [prediction]) == 1


def scored_by(adapter: Path) -> float:
    task = tasks.load("custom", adapter)
    return task.score([task.decode({"sum": np.ones((1, 4))}, {})], np.ones((1, 4)), ()).value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("import sys; sys.exit(0)", "cannot be imported: SystemExit: 0"),
        ("def decode(outputs): return {}", "has no function score_samples"),
        (ADAPTER.replace('{"positive"', '{}["positive"] or {"p"'), r"decode\(\) of .* failed: KeyError"),
        (ADAPTER.replace("np.mean(", "exit("), r"score_samples\(\) of .* failed: SystemExit"),
        (ADAPTER.replace("np.mean(", "3 + np.mean("), "1 numbers of 0 to 1"),
    ],
)
def test_what_an_adapter_does_wrong_is_said(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "adapter.py").write_text(text)
    with pytest.raises(RecipeError, match=message):
        scored_by(tmp_path / "adapter.py")


def test_a_file_is_scored_by_the_recipes_adapter(tmp_path: Path) -> None:
    write_add_relu(tmp_path / "model.tflite")
    (tmp_path / "adapter.py").write_text(ADAPTER)
    x = np.array([[1, -1, 1, -1], [1, 1, 1, 1]], np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=np.array([[1, 0, 1, 1], [1, 1, 1, 1]]))
    np.savez(tmp_path / "calibration.npz", x=x + 2)
    (tmp_path / "edgekit.toml").write_text(
        """
        [model]
        path = "model.tflite"
        [task]
        kind = "custom"
        adapter = "adapter.py"
        [data]
        kind = "npz"
        test = "test.npz"
        calibration = "calibration.npz"
        [targets]
        names = ["raspberry-pi-4"]
        """
    )
    done = edgekit("evaluate", tmp_path / "model.tflite", "-c", tmp_path, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["metric"], found["value"], found["samples"]) == ("signs right", 0.875, 2)
