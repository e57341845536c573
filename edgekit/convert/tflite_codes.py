"""The table of operators that a `.tflite` model uses."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema


def index_of(model: Any, operator: int, version: int = 1) -> int:
    """Return where an operator stands in the table of ``model``, at least at that version; add it if need be.

    Files from before 2021 have the number in ``deprecatedBuiltinCode`` alone.
    """
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == operator:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
