"""edgekit.toml: what the model is, what it is for, and what must hold."""

from edgekit.recipe.file import FILE_NAME, Recipe, load
from edgekit.recipe.fingerprints import fingerprint, making_fingerprint
from edgekit.recipe.tables import TaskTable

__all__ = ["FILE_NAME", "Recipe", "TaskTable", "fingerprint", "load", "making_fingerprint"]
