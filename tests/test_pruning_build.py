"""Pruning in a whole build: the amount is found, the control trained, the curve measured, the result taken again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import SIZES, edgekit, edit, fashion, report_of

from edgekit.prune.judging.split import Split
from edgekit.prune.selection.amount import FIRST

pytestmark = pytest.mark.slow

# so little time that the first amount is the only one: what it bisects is tested on numbers
SEARCHED = "[prune]\nepochs = 1\nminutes = 0.001\nseeds = 2\ncost = 'macs'\n[quantize]\nenabled = false\n"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fashion recipe whose amount was searched for by `edgekit prune`, and then built."""
    folder = fashion(tmp_path_factory.mktemp("searched") / "fashion", SEARCHED)
    pruned = edgekit("prune", "-c", folder, "-o", folder / "out", timeout_s=400)
    assert pruned.code == 0, pruned.err
    assert "Amounts judged by labels, against the control, on samples nothing learned" in " ".join(pruned.err.split())
    built = edgekit("build", "-c", folder, "-o", folder / "out", timeout_s=400)
    assert built.code in (0, 7), built.err
    assert "prune" in built.steps("reused")
    return folder


def test_a_network_too_narrow_to_cut_ships_as_it_is_and_both_commands_say_so(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", "[prune]\nmin_channels = 4096\n[quantize]\nenabled = false\n")
    built = edgekit("build", cwd=folder, timeout_s=400)
    assert built.code == 0, built.err
    report = report_of(folder / "edgekit-build")
    assert (report["prune"]["tried"], report["prune"]["curve"]) == ([], [])
    target = report["targets"][0]
    assert target["shipped"] == "float32"
    cause = next(row["cause"] for row in target["variants"] if row["name"] == "pruned-float32")
    assert cause == "the same file as float32, byte for byte"
    pruned = edgekit("prune", cwd=folder)
    for done in (built, pruned):
        assert done.code == 0, done.err
        assert "note: No channel of this model can be cut" in " ".join(done.err.split())


def test_the_amount_is_found_and_held_against_the_control(searched: Path) -> None:
    prune = report_of(searched / "out")["prune"]
    tried = {item["name"]: item for item in prune["tried"]}
    amounts = [item for name, item in tried.items() if name.startswith("keep-") and name.endswith("-seed-0")]
    assert [item["keep"] for item in amounts] == [FIRST]
    assert {"control-seed-0", "control-seed-1"} <= tried.keys()
    assert prune["chosen"].replace("-seed-0", "-seed-1") in tried
    assert prune["judged_by"] == "labels, against the control"
    record = json.loads((searched / "out/prune/pruned.json").read_text())
    assert record["facts"]["training_samples"] == len(Split.of(SIZES["train"]).train)
    assert prune["macs_after"] == tried[prune["chosen"]]["macs"] < prune["macs_before"]


def test_every_network_is_scored_and_timed_on_one_curve(searched: Path) -> None:
    prune = report_of(searched / "out")["prune"]
    curve = {point["name"]: point for point in prune["curve"]}
    assert curve.keys() == {"unpruned", *(item["name"] for item in prune["tried"])}
    assert all(point["latency"]["samples_ns"] for point in curve.values())
    assert curve["unpruned"]["accuracy"]["drop_points"] is None
    assert curve["unpruned"]["against_control"]["control"] == "control-seed-0"
    again = curve[prune["chosen"].replace("-seed-0", "-seed-1")]["against_control"]
    assert again["control"] == "control-seed-1"
    control = curve["control-seed-1"]["accuracy"]["value"]
    value = curve[prune["chosen"].replace("-seed-0", "-seed-1")]["accuracy"]["value"]
    assert again["points"] == pytest.approx(100 * (control - value))
    page = (searched / "out" / "report.html").read_text()
    assert "Pruning" in page
    assert "against latency of the float networks" in page
    assert "against the unpruned model trained as long" in page
    assert "Over 2 seeds" in page
    assert "on average against controls of the same seeds" in page


def test_a_finished_network_is_taken_without_training(searched: Path, tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", "[prune]\ncheckpoint = 'prune'\n[quantize]\nenabled = false\n")
    (folder / "prune").symlink_to(searched / "out" / "prune")
    done = edgekit("build", "-c", folder, "-o", folder / "out", timeout_s=400)
    assert done.code in (0, 7), done.err
    taken, made = report_of(folder / "out")["prune"], report_of(searched / "out")["prune"]
    assert taken["checkpoint"] == "prune"
    assert taken["tried"] == made["tried"]
    assert {point["name"] for point in taken["curve"]} == {point["name"] for point in made["curve"]}
    assert "nothing was trained now" in (folder / "out" / "report.html").read_text()
    accuracy = [{point["name"]: point["accuracy"] for point in prune["curve"]} for prune in (taken, made)]
    assert accuracy[0] == accuracy[1]


def test_a_network_pruned_from_another_model_is_refused(searched: Path, tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", "[prune]\ncheckpoint = 'prune'\n[quantize]\nenabled = false\n")
    made = searched / "out" / "prune"
    (folder / "prune").mkdir()
    record = json.loads((made / "pruned.json").read_text()) | {"source_sha256": "0" * 64}
    (folder / "prune" / "pruned.json").write_text(json.dumps(record))
    (folder / "prune" / "pruned.keras").write_bytes((made / "pruned.keras").read_bytes())
    done = edgekit("prune", "-c", folder, "-o", folder / "out")
    assert done.code == 2
    assert "was made of another model than model.keras" in done.err
    edit(folder, "'prune'", "'nowhere'")
    done = edgekit("prune", "-c", folder, "-o", folder / "out")
    assert done.code == 2
    assert "nowhere" in done.err
