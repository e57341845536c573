"""Where fine-tuning stands in a build, and when a recipe may ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from project import edgekit, edit, fashion

from edgekit import recipe, target
from edgekit.errors import RecipeError
from edgekit.pipeline import needs
from edgekit.plan import check_finetuning, plan
from edgekit.report.schema import FinetuneSummary, SearchSummary
from edgekit.report.search_section import sentence
from edgekit.steps import BuildPlan

BOTH = ["raspberry-pi-4", "jetson-orin-nano"]
FINETUNE = "[quantize]\nfinetune = true\n"
NO_PRUNE = "[prune]\nenabled = false\n"


def planned(folder: Path, extra: str) -> BuildPlan:
    wanted = recipe.load(fashion(folder, extra))
    return plan(wanted, [target.load(name) for name in BOTH], "keras", {})


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert not [step for step in planned(tmp_path / "r", NO_PRUNE).steps.values() if step.stage == "finetune"]


@pytest.mark.parametrize("pruned", [False, True])
def test_one_student_for_each_model_after_all_of_its_searches(tmp_path: Path, pruned: bool) -> None:
    found = planned(tmp_path / "r", FINETUNE + ("" if pruned else NO_PRUNE)).steps
    models = ["original", "pruned"] if pruned else ["original"]
    for model in models:
        searches = {f"search-tflite-int8-{model}", f"search-onnx-int8-tensorrt-{model}"}
        assert searches <= needs(found[f"finetune-{model}"])
        for search in searches:
            chosen = found[search.replace("search-", "plan-")]
            assert {search, f"finetune-{model}"} <= needs(chosen)
            emitted = found[search.replace("search-", "emit-")]
            assert chosen.id in needs(emitted)
            assert search not in needs(emitted)
    assert sum(step.function.endswith("finetune.stage:run") for step in found.values()) == len(models)
    done: set[str] = set()
    for step in found.values():  # `edgekit quantize` reads the steps in this order
        assert needs(step) <= done, step.id
        done.add(step.id)


def test_a_dry_run_shows_it(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "r", FINETUNE + NO_PRUNE)
    np.savez(folder / "data/calibration.npz", x=_images(40))
    done = edgekit("build", "-c", folder, "--dry-run")
    assert done.code == 0, done.err
    assert "fine-tune the original model if needed" in done.out


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 28, 28, 1), np.uint8)


def test_too_few_samples_exit_2(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "r", FINETUNE + NO_PRUNE)  # 20 samples
    done = edgekit("build", "-c", folder, "--dry-run")
    assert done.code == 2
    assert "at least 24 samples in data.calibration; there are 20" in " ".join(done.err.split())


@pytest.mark.parametrize("switch", ["search", "enabled"])
def test_without_a_search_it_is_a_contradiction(tmp_path: Path, switch: str) -> None:
    folder = fashion(tmp_path / "r", f"{FINETUNE}{switch} = false\n")
    with pytest.raises(RecipeError, match=f"finetune = true needs {switch} = true"):
        recipe.load(folder)


def test_another_source_than_keras_exits_2_and_says_what_to_do(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "r", FINETUNE + NO_PRUNE)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, [1, 28, 28, 1])], [value("y", TensorProto.FLOAT, [1, 784])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "m.onnx")
    edit(folder, '"model.keras"', '"m.onnx"')
    done = edgekit("build", "-c", folder, "--dry-run")
    assert done.code == 2
    assert "m.onnx is no Keras model" in " ".join(done.err.split())
    assert "set finetune = false" in " ".join(done.err.split())


@pytest.mark.parametrize("source", ["onnx", "saved_model"])
def test_check_names_the_model(tmp_path: Path, source: str) -> None:
    wanted = recipe.load(fashion(tmp_path / "r", FINETUNE))
    with pytest.raises(RecipeError, match="is no Keras model"):
        check_finetuning(wanted, source, 100)
    check_finetuning(wanted, "keras", 100)


@pytest.mark.parametrize(
    ("finetune", "told"),
    [
        (None, ""),
        (FinetuneSummary(needed=False, kept=False), ""),
        (
            FinetuneSummary(needed=True, kept=True, samples=96, epochs=20, loss_before=0.2, loss_after=0.1),
            " These are plans of the fine-tuned model: 20 epochs on 96 unlabelled samples, 80.00 % -> 90.00 %"
            " agreement.",
        ),
        (
            FinetuneSummary(needed=True, kept=False, samples=96, epochs=7, loss_before=0.2, loss_after=0.3),
            " The fine-tuned model is not used: 7 epochs on 96 unlabelled samples, 80.00 % -> 70.00 % agreement.",
        ),
        (
            FinetuneSummary(needed=True, kept=False, samples=96, epochs=18),
            " Fine-tuning on 96 samples was tried and not used.",
        ),
    ],
)
def test_the_page_says_what_it_bought(finetune: FinetuneSummary | None, told: str) -> None:
    found = SearchSummary(
        held_samples=8, target_loss=0.05, loss=0.1, reached=False, complete=True, log=[], finetune=finetune
    )
    assert sentence(found).endswith(f"short of the 95.00 % aimed at.{told}")
