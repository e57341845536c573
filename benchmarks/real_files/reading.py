"""The adapter of the text reader: the letters of a line, out of one distribution for each place (CTC)."""

from typing import Any

import numpy as np

METRIC = "lines read right"
BLANK = 0


def decode(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return the (places, letters) probabilities: agreement with the float model is judged on them."""
    return {"probabilities": next(iter(outputs.values()))[0]}


def score_samples(predictions: list[dict[str, Any]], truth: Any) -> Any:
    """Return 1 for each line of which every letter is right."""
    pairs = zip(predictions, truth, strict=True)
    return np.array([float(np.array_equal(_letters(p["probabilities"]), t[t > 0])) for p, t in pairs])


def _letters(probabilities: Any) -> Any:
    best = probabilities.argmax(-1)
    return best[(best != BLANK) & (best != np.concatenate([[BLANK], best[:-1]]))]
