"""Stands in for TensorRT's trtexec: its options, files and last line, around ONNX Runtime.

It shows that edgekit reads and writes what trtexec does; what TensorRT makes of a model only a Jetson shows.
"""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import onnxruntime

MS = 2.5


def main() -> None:
    print("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec", *sys.argv[1:])
    options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
    if "onnx" in options:
        if "refused" in options["onnx"]:
            print("[11/21/2026-10:00:00] [E] Error[4]: In node 3 (importModel): UNSUPPORTED_NODE")
            print("&&&& FAILED TensorRT.trtexec [TensorRT v8502]")
            raise SystemExit(1)
        shutil.copyfile(options["onnx"], options["saveEngine"])
    else:
        print("[11/21/2026-10:00:00] [I] Engine deserialized in 0.0123 sec.")
        infer(options)
    print("[11/21/2026-10:00:00] [I] Throughput: 130.298 qps")
    print("[11/21/2026-10:00:00] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms")
    print("&&&& PASSED TensorRT.trtexec [TensorRT v8502]")


def infer(options: dict[str, str]) -> None:
    session = onnxruntime.InferenceSession(options["loadEngine"])
    feed = {}
    files = dict(pair.split(":") for pair in options.get("loadInputs", "").split(",") if pair)
    for node in session.get_inputs():
        if node.name in files:
            feed[node.name] = np.fromfile(files[node.name], np.float32).reshape(node.shape)
        else:
            feed[node.name] = np.zeros(node.shape, np.float32)
    if target := options.get("exportOutput"):
        arrays = session.run(None, feed)
        found = [
            {"name": node.name, "dimensions": "x".join(map(str, array.shape)), "values": array.ravel().tolist()}
            for node, array in zip(session.get_outputs(), arrays, strict=True)
        ]
        write(target, found)
    if target := options.get("exportTimes"):
        start, count = float(options["warmUp"]), int(options["iterations"])
        warm = [{"startComputeMs": index * 10.0, "latencyMs": 99.0} for index in range(int(start // 10))]
        write(target, warm + [{"startComputeMs": start + index, "latencyMs": MS} for index in range(count)])
    if target := options.get("exportProfile"):
        write(target, [{"count": 3}, {"name": "Conv_0 + Relu_1", "timeMs": 3.0, "averageMs": 1.0, "percentage": 100}])


def write(path: str, content: object) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(content, stream)


if __name__ == "__main__":
    main()
