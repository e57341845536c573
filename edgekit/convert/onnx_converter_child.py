"""The converter's own process, ``python -m edgekit.convert.onnx_converter_child REQUEST.json PARENT``.

It exits in the middle of its functions, prints as it likes and holds its input for its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx2tf

from edgekit.lifeline import die_with_parent


def _main(request: Path, parent: int) -> None:
    die_with_parent(parent)
    wanted = json.loads(request.read_text())
    os.chdir(wanted["out"])
    onnx2tf.convert(
        input_onnx_file_path=wanted["model"],
        output_folder_path=wanted["out"],
        keep_shape_absolutely_input_names=wanted["kept"] or None,
        not_use_onnxsim=True,  # what it gets is simplified already
        enable_rnn_unroll=True,  # LiteRT's recurrent ops keep their state from one call to the next
        report_op_coverage=True,
        verbosity="error",
    )


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
