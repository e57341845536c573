"""benchmark_model's output as it was recorded, in public logs of several of its versions."""

from __future__ import annotations

from edgekit.runtimes.benchmark_model import delegated, parse

DESKTOP = """\
STARTING!
Num threads: [4]
Loaded model ./mobilenet_v1_1.0_224.tflite
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
"""
PHONE = """\
I tflite  : count=3 first=300000 curr=200000 min=190000 max=300000 avg=230000 std=40000
I tflite  : count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533
I tflite  : Inference timings in us: Init: 92318, First inference: 187533, Warmup (avg): 211669, Inference (avg): 145528
I tflite  : Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.4102
"""  # noqa: E501
CUT_OFF = DESKTOP.partition("Inference timings")[0]


def test_the_warm_up_is_not_the_result() -> None:
    (run,) = parse(DESKTOP)
    assert (run.count, run.mean_us, run.fastest_us) == (50, 2950340.0, 2727568.0)
    assert (run.init_us, run.first_us) == (17187.0, 3512391.0)


def test_prefixes_and_percentiles_of_newer_versions() -> None:
    (run,) = parse(PHONE)
    assert (run.count, run.figures_us["median"], run.figures_us["p95"]) == (25, 141253.0, 187533.0)


def test_several_runs_in_one_text() -> None:
    assert [run.count for run in parse(DESKTOP + PHONE)] == [50, 25]


def test_a_single_call_has_only_its_own_time() -> None:
    (run,) = parse("count=1 curr=90\ncount=1 curr=50\nInference timings in us: Init: 1, First inference: 90, ...\n")
    assert (run.mean_us, run.fastest_us) == (50.0, 50.0)


def test_what_was_cut_off_is_no_result() -> None:
    assert parse(CUT_OFF) == []
    assert parse("") == []


def test_delegated_nodes() -> None:
    assert delegated("INFO: Replacing 62 out of 64 node(s) with delegate (TfLiteXNNPackDelegate) node") == (62, 64)
    assert delegated(DESKTOP) is None
