"""Cut labelled snippets out of the documentation strings of installed packages."""

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SNIPPET_WORDS = 64
MIN_WORDS = 32
VOCABULARY_SIZE = 3000  # token 0 is padding, 1 an unknown word
PADDING, UNKNOWN = 0, 1
TOPICS = {
    "graphs": "networkx/algorithms",
    "images": "skimage",
    "machine learning": "sklearn",
    "neural networks": "keras/src",
    "optimization": "scipy/optimize",
    "signals": "scipy/signal",
    "statistics": "scipy/stats",
}
CALIBRATION_SHARE, TEST_SHARE = 0.05, 0.20  # of the files


@dataclass(frozen=True)
class Snippets:
    """Word lists of at most 64 words, and the topic's number of each."""

    words: list[list[str]]
    topics: npt.NDArray[np.int64]


def collect_snippets(site_packages: Path) -> dict[str, Snippets]:
    """Return "train", "calibration" and "test" snippets, from different files and each only once."""
    words: dict[str, list[list[str]]] = {"train": [], "calibration": [], "test": []}
    topics: dict[str, list[int]] = {part: [] for part in words}
    seen: set[tuple[str, ...]] = set()
    for topic, folder in enumerate(TOPICS.values()):
        for path in sorted((site_packages / folder).rglob("*.py")):
            name = path.relative_to(site_packages).as_posix()
            if "test" in name:
                continue
            part = _part_of(name)
            for snippet in _snippets_of(path.read_text(encoding="utf-8")):
                if tuple(snippet) not in seen:
                    seen.add(tuple(snippet))
                    words[part].append(snippet)
                    topics[part].append(topic)
    return {part: Snippets(words[part], np.array(topics[part], np.int64)) for part in words}


def draw_balanced(snippets: Snippets, per_topic: int, rng: np.random.Generator) -> Snippets:
    """Draw up to `per_topic` snippets of each topic, in random order."""
    chosen = [rng.permutation(np.nonzero(snippets.topics == topic)[0])[:per_topic] for topic in range(len(TOPICS))]
    order = rng.permutation(np.concatenate(chosen))
    return Snippets([snippets.words[row] for row in order], snippets.topics[order])


def learn_vocabulary(snippets: Snippets) -> dict[str, int]:
    """Number the most frequent words; ties go by the alphabet."""
    counts = Counter(word for snippet in snippets.words for word in snippet)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[: VOCABULARY_SIZE - 2], 2)}


def encode(snippets: Snippets, vocabulary: dict[str, int]) -> npt.NDArray[np.int32]:
    """Return token ids (n, 64), padded at the end."""
    tokens = np.full((len(snippets.words), SNIPPET_WORDS), PADDING, np.int32)
    for row, snippet in enumerate(snippets.words):
        tokens[row, : len(snippet)] = [vocabulary.get(word, UNKNOWN) for word in snippet]
    return tokens


def _snippets_of(source: str) -> Iterator[list[str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            words = re.findall("[a-z]+", (ast.get_docstring(node) or "").lower())
            for start in range(0, len(words) - MIN_WORDS + 1, SNIPPET_WORDS):
                yield words[start : start + SNIPPET_WORDS]


def _part_of(file_name: str) -> str:
    position = int(hashlib.sha256(file_name.encode()).hexdigest()[:8], 16) / 16**8
    if position < TEST_SHARE:
        return "test"
    return "calibration" if position < TEST_SHARE + CALIBRATION_SHARE else "train"
