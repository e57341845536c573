"""The programs in the bundles, each run where there is a runtime for it here, against what edgekit itself computes."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from project import report_of

from edgekit.artifact import Artifact, digest
from edgekit.bundle.lay_out import RUNNERS
from edgekit.bundle.runners import edgekit_run
from edgekit.convert import package
from edgekit.runtimes import open_model
from edgekit.target import load, names

FOLDER = Path(__file__).parents[2] / "edgekit/bundle/runners"


def test_every_target_has_a_runner() -> None:
    for name in names():
        for file in RUNNERS[load(name).device.kind]:
            assert (FOLDER / file).is_file()


def bundle_of(finished: Path, folder: Path) -> Path:
    [target] = report_of(finished / "out")["targets"]
    return Path(shutil.copytree(finished / "out" / target["bundle"], folder / "bundle"))


def sample(finished: Path, number: int = 3) -> Any:
    with np.load(finished / "data/test.npz") as stored:
        return stored["x"][number]


def expected_scores(bundle: Path, values: Any) -> tuple[list[str], Any]:
    """Return the labels and what the file gives for one sample, in LiteRT here."""
    about = json.loads((bundle / "model.json").read_text())
    session = open_model(bundle / about["file"], about["format"])
    shape = about["inputs"][0]["shape"]
    x = (values.reshape(shape).astype(np.float32) - about["preprocess"]["mean"][0]) * about["preprocess"]["scale"][0]
    [scores] = session.run([x.astype(np.float32)])
    return about["labels"], np.asarray(scores).reshape(-1)


@pytest.mark.slow
def test_the_python_runner_runs_alone_on_an_image_and_on_an_array(finished: Path, tmp_path: Path) -> None:
    bundle = bundle_of(finished, tmp_path)
    values = sample(finished)
    np.save(tmp_path / "sample.npy", values)
    Image.fromarray(values.reshape(28, 28).astype(np.uint8)).save(tmp_path / "image.png")
    # -I: nothing of edgekit, neither its folder nor PYTHONPATH, is on the path
    words = [sys.executable, "-I", str(bundle / "edgekit_run.py"), "sample.npy", "image.png"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    labels, scores = expected_scores(bundle, values)
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        assert answer["ms"] > 0
        assert answer["result"][0]["label"] == labels[int(scores.argmax())]
        assert answer["result"][0]["score"] == pytest.approx(float(scores.max()), abs=1e-4)


@pytest.mark.slow
def test_the_python_runner_runs_an_onnx_file(finished: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    half = onnx.helper.make_node("Mul", ["image", "half"], ["scores"])
    graph = onnx.helper.make_graph(
        [half], "g",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 2, 2])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 3, 2, 2])],
        [onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5])],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    ins, outs = package.tensor_specs(path, "onnx")
    artifact = Artifact(path, "onnx", "float32", ins, outs, digest(path), path.stat().st_size)
    how = {"color": "rgb", "mean": [1.0, 2.0, 3.0], "scale": [1.0, 1.0, 2.0], "size": None}
    about = {**package.model_json(artifact, preprocess=how), "task": {"kind": "generic"}}
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    model = edgekit_run.RUNTIMES["onnx"](path, about, 1)
    outputs = model(edgekit_run.read(tmp_path / "image.png", about))
    expected = ((pixels.astype(np.float32) - how["mean"]) * how["scale"] * 0.5).transpose(2, 0, 1)[np.newaxis]
    np.testing.assert_allclose(outputs["scores"], expected)


def test_integers_at_the_borders_are_quantized_and_back() -> None:
    tensor = {"shape": [1, 4], "dtype": "int8", "layout": "", "quantization": {"scale": 0.5, "zero_point": -3}}
    how = {"mean": [0.0], "scale": [1.0]}
    stored = edgekit_run.fitted(np.array([0.0, 1.0, -500.0, 500.0]), tensor, how)
    assert stored.tolist() == [[-3, -1, -128, 127]]
    assert edgekit_run.dequantized(stored, tensor).tolist() == [[0.0, 1.0, -62.5, 65.0]]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def require(have: object, reason: str) -> None:
    """Skip where it is missing; in CI that is a failure."""
    if not have:
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_runs_the_model_in_a_real_browser(finished: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    require(browser, "no browser is installed; on Debian: apt-get install chromium")
    assets = find_spec("edgekit_web_assets")
    require(assets and find_spec("playwright"), "the extra `web` is not installed: make web")
    assert assets is not None
    assert assets.origin is not None
    from playwright.sync_api import sync_playwright

    bundle = bundle_of(finished, tmp_path)
    for name in RUNNERS["browser"]:
        shutil.copyfile(FOLDER / name, bundle / name)
    shutil.copytree(Path(assets.origin).parent, bundle / "runtime")
    values = sample(finished)
    Image.fromarray(values.reshape(28, 28).astype(np.uint8)).save(tmp_path / "image.png")
    labels, scores = expected_scores(bundle, values)
    with served(bundle) as address, sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{address}/edgekit.html")
        page.wait_for_function("document.querySelector('#file').disabled === false", timeout=60_000)
        page.set_input_files("#file", tmp_path / "image.png")
        page.wait_for_function("document.querySelector('#result').textContent !== ''", timeout=60_000)
        first = page.inner_text("#result").splitlines()[0]
        exact = page.evaluate("values => edgekit.runValues(Float32Array.from(values))", values.ravel().tolist())
        opened.close()
    assert not said
    assert first.startswith(labels[int(scores.argmax())])
    assert exact[0]["label"] == labels[int(scores.argmax())]
    assert exact[0]["score"] == pytest.approx(float(scores.max()), abs=0.02)  # other kernels: an int8 step or two
