"""How channels pass through each Keras operation: one small rule per kind, named in RULES by class name.

Tensors are channels-last, besides those between a transpose and its inverse. A rule returns channel ids per output.
A layer or op of the same name (keras.layers.Add, keras.ops.add) behaves alike, so one entry serves both. A class
missing here is frozen.
"""

from __future__ import annotations

from edgekit.prune.keras import rules_elementwise, rules_layers, rules_movement, rules_sequence
from edgekit.prune.keras.call import Rule

# These follow channels along whatever axis; the others need them last.
ANY_AXIS = {**rules_elementwise.ANY_AXIS, **rules_movement.ANY_AXIS}
RULES: dict[str, Rule] = {
    **ANY_AXIS,
    **rules_elementwise.RULES,
    **rules_layers.RULES,
    **rules_movement.RULES,
    **rules_sequence.RULES,
}
