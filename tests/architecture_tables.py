"""What the rules of the source go by: the layers, and everything that is an exception, by name."""

from __future__ import annotations

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "lifeline", "progress"}),
    frozenset(
        {
            "artifact",
            "as_input",
            "dataset",
            "target",
            "recipe",
            "source",
            "keras_io",
            "named_code",
            "arrays",
            "worker",
        }
    ),
    frozenset({"tasks", "runtimes", "devices"}),
    frozenset({"prune", "quantize", "convert", "profile"}),
    frozenset({"search"}),
    frozenset({"finetune"}),
    frozenset(
        {
            "plan",
            "pruning_record",
            "precision_map",
            "disagreements",
            "layer_noise",
            "verdicts",
            "device_rows",
            "build",
            "build_folder",
            "bundle",
            "diagnose",
            "gate",
            "inspection",
            "installed",
            "one_stage",
            "runs",
            "single",
            "sized",
        }
    )
    | {"inspection", "pipeline", "provenance", "report", "steps", "store", "verify"},
    frozenset(
        {
            "cli",
            "console",
            "bug",
            "__main__",
        }
    ),
)
STAGES = LAYERS[3]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
CENTRAL = {"edgekit.report.schema"}  # data that every layer may hold
# What one folder may know of another that it would otherwise have no business with: the central types.
SHARED = {
    "convert": {"edgekit.quantize.plan"},
    # layers are timed as what a build makes of them, the way a build times
    "prune": {
        "edgekit.convert.float_graph",
        "edgekit.convert.onnx_file",
        "edgekit.convert.tflite",
        "edgekit.profile.latency",
        "edgekit.profile.schedule",
    },
    "profile": {"edgekit.report.schema"},
    "report": {"edgekit.profile.gains", "edgekit.profile.wording"},
}
HIDDEN_FROM_STAGES = ("edgekit.target", "edgekit.recipe", "edgekit.recipe.prune")
ON_THE_DEVICE = {f"edgekit.runtimes.{name}" for name in ("agent", "facts", "litert", "litert_ops", "ort", "ort_ops")}
ON_THE_DEVICE.add("edgekit.bundle.runners.edgekit_run")
# The lazy tables, and the child process that imports the one function it was asked for.
LAZY = {
    "edgekit.build",
    "edgekit.bundle.runners.edgekit_run",  # runs where only one of its runtimes is
    *(f"edgekit.cli.{name}" for name in ("app", "chain", "gate", "measuring", "model", "options", "show", "trust")),
    "edgekit.convert.stage",
    "edgekit.devices",
    "edgekit.finetune.stage",
    "edgekit.pipeline",
    "edgekit.report",
    "edgekit.runtimes",
    "edgekit.tasks",
    "edgekit.worker",
}
# These answer a caller with whatever went wrong, in words; everything else raises again.
ANSWERS_EVERY_ERROR = {"edgekit.cli.app", "edgekit.runtimes.agent"}
# A device's runtime file, and the files that the recipe names.
RUNS_NAMED_CODE = {"edgekit.runtimes.agent", "edgekit.named_code"}
UNSAFE_ARGUMENTS = {"allow_pickle=True", "safe_mode=False", "shell=True"}
NEVER_IMPORTED = {"pickle", "dill", "marshal", "shelve", "urllib.request", "http.client", "requests", "httpx"}
WALL_CLOCKS = {
    *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.strftime", "time.ctime"),
    *("datetime.datetime.now", "datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "date.today"),
}
DATED = {"edgekit.build", "edgekit.bug"}  # a report and a bug's log say when they were written
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "process"}
LONGEST_MODULE = 350
