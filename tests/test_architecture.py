"""What the source may look like: which module imports which, what stays lazy, what is never swallowed.

Each rule is a function from parsed modules to violations; a planted violation shows that it can fail.
"""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from edgekit import errors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgekit"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "lifeline", "progress"}),
    frozenset(
        {
            "artifact",
            "as_input",
            "dataset",
            "target",
            "recipe",
            "recipe_prune",
            "recipe_table",
            "source",
            "keras_io",
            "named_code",
            "arrays",
        }
    ),
    frozenset({"tasks", "runtimes", "devices"}),
    frozenset({"prune", "quantize", "convert", "profile"}),
    frozenset({"search"}),
    frozenset({"finetune"}),
    frozenset(
        {
            "plan",
            "plan_data",
            "plan_float",
            "plan_pruning",
            "pruning_record",
            "plan_costs",
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
            "runs",
            "single",
            "sized",
        }
    )
    | {"inspection", "pipeline", "provenance", "report", "steps", "store", "verify", "worker"},
    frozenset(
        {
            "cli",
            "cli_gate",
            "cli_model",
            "cli_options",
            "cli_show",
            "cli_trust",
            "console",
            "console_device",
            "console_diagnosis",
            "console_page",
            "console_gate",
            "console_trust",
            "console_inspection",
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
HIDDEN_FROM_STAGES = ("edgekit.target", "edgekit.recipe", "edgekit.recipe_prune")
ON_THE_DEVICE = {f"edgekit.runtimes.{name}" for name in ("agent", "facts", "litert", "litert_ops", "ort", "ort_ops")}
ON_THE_DEVICE.add("edgekit.bundle.runners.edgekit_run")
# The lazy tables, and the child process that imports the one function it was asked for.
LAZY = {
    "edgekit.build",
    "edgekit.bundle.runners.edgekit_run",  # runs where only one of its runtimes is
    "edgekit.cli",
    "edgekit.cli_gate",
    "edgekit.cli_model",
    "edgekit.cli_options",
    "edgekit.cli_show",
    "edgekit.cli_trust",
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
ANSWERS_EVERY_ERROR = {"edgekit.cli", "edgekit.runtimes.agent"}
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
HEAVY = ("numpy", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "pydantic", "h5py", "PIL")


@dataclass(frozen=True)
class Module:
    """One parsed file, under its dotted name."""

    name: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def part(self) -> str:
        """The file or folder right under ``edgekit/``; empty for the package itself."""
        return f"{self.name}.".split(".")[1]


Modules = dict[str, Module]
Rule = Callable[[Modules], Iterator[str]]


def _read_package() -> Modules:
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, path.read_text(), is_package)
    return modules


def _imports(module: Module, known: Modules) -> set[str]:
    """Return the modules of edgekit that this one imports, at whatever depth of the code."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                steps = node.level - module.is_package
                package = module.name.split(".")[: -steps or None]
                origin = ".".join([*package, origin] if origin else package)
            names = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {name if name in known else origin for name in names}
    return {name for name in found if name.split(".")[0] == "edgekit"}


def dependencies_point_down(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.part and module.part not in RANK:
            yield f"{module.name} is in no layer"
            continue
        for target in _imports(module, modules) - {"edgekit"} - CENTRAL:
            part = target.split(".")[1]
            if module.part != part and RANK.get(part, 99) > RANK.get(module.part, -1):
                yield f"{module.name} imports {target}, which is above it"


def folders_keep_their_insides(modules: Modules) -> Iterator[str]:
    """Stages see nothing of each other, and the report nothing of the stages, but the shared types."""
    for module in modules.values():
        if module.part not in STAGES | {"report"}:
            continue
        closed = (STAGES | {"report"}) - {module.part}
        for target in _imports(module, modules) - SHARED.get(module.part, set()):
            if f"{target}.".split(".")[1] in closed:
                yield f"{module.name} imports {target}, the inside of another folder"
            if module.part in STAGES and target in HIDDEN_FROM_STAGES:
                yield f"{module.name} imports {target}: the plan gives a stage its parameters"


def imports_have_no_cycle(modules: Modules) -> Iterator[str]:
    graph = {name: _imports(module, modules) - {"edgekit", name} for name, module in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield " -> ".join(reversed(error.args[1]))


def device_files_stand_alone(modules: Modules) -> Iterator[str]:
    for name in ON_THE_DEVICE & modules.keys():
        for target in _imports(modules[name], modules):
            yield f"{name} is copied to a device without edgekit, and imports {target}"


def imports_stand_at_the_top(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.name in LAZY:
            continue
        for function in ast.walk(module.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for node in ast.walk(function):
                    statement = isinstance(node, ast.Import | ast.ImportFrom)
                    if statement or _called(node) in {"import_module", "__import__"}:
                        yield f"{module.name} imports inside a function: {ast.unparse(node)}"


def stages_do_not_print(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for node in ast.walk(module.tree):
            if module.part in STAGES and _called(node) == "print":
                yield f"{module.name} prints"


def no_error_is_swallowed(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                if node.type is None:
                    yield f"{module.name}:{node.lineno} has a bare except"
                elif _is_broad(node.type) and module.name not in ANSWERS_EVERY_ERROR and not _raises(node):
                    yield f"{module.name}:{node.lineno} catches everything and does not raise"
            if _called(node) == "suppress" and any(map(_is_broad, ast.iter_child_nodes(node))):
                yield f"{module.name} suppresses everything"


def models_stay_data(modules: Modules) -> Iterator[str]:
    """Nothing out of a file is executed but what the recipe, or edgekit's own agent, names."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.keyword) and ast.unparse(node) in UNSAFE_ARGUMENTS:
                yield f"{module.name} passes {ast.unparse(node)}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"eval", "exec"}:
                yield f"{module.name} calls {ast.unparse(node.func)}"
            elif _called(node) == "spec_from_file_location" and module.name not in RUNS_NAMED_CODE:
                yield f"{module.name} imports a file by its path"


def nothing_unsafe_or_online_is_imported(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                origin = node.module if isinstance(node, ast.ImportFrom) else None
                for name in {alias.name for alias in node.names} | {origin}:
                    if name in NEVER_IMPORTED:
                        yield f"{module.name} imports {name}"


def names_say_something(modules: Modules) -> Iterator[str]:
    for name in modules:
        if set(name.strip("_").split(".")) & BANNED_NAMES:
            yield name


def modules_are_small(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if (lines := len(module.text.splitlines())) > LONGEST_MODULE:
            yield f"{module.name} has {lines} lines"


def modules_say_what_they_are(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.text.strip() and not ast.get_docstring(module.tree):
            yield f"{module.name} has no docstring"


def the_wall_clock_is_only_written_down(modules: Modules) -> Iterator[str]:
    """It may jump in the middle of a build: what takes time into account takes ``time.monotonic``."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in WALL_CLOCKS and module.name not in DATED:
                yield f"{module.name} reads the wall clock: {name}"


def user_errors_come_from_one_tree(modules: Modules) -> Iterator[str]:
    """The exit codes stand in ``errors.py``: no other module derives an error of its own from them."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and module.name != "edgekit.errors":
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                if bases & {"EdgekitError", *errors.ERRORS, *(kind.__name__ for kind in _finer_errors())}:
                    yield f"{module.name} defines {node.name}"


def _called(node: ast.AST) -> str:
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def _is_broad(node: ast.AST) -> bool:
    caught = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(ast.unparse(one) in {"Exception", "BaseException"} for one in caught)


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


RULES: dict[Rule, tuple[str, str]] = {  # each with a module that breaks it
    dependencies_point_down: ("edgekit.runtimes.fast", "from edgekit import store"),
    folders_keep_their_insides: ("edgekit.prune.fast", "from edgekit.quantize.decide import decide"),
    imports_have_no_cycle: ("edgekit.errors", "from edgekit.store import Store"),
    device_files_stand_alone: ("edgekit.runtimes.agent", "from edgekit.errors import StageError"),
    imports_stand_at_the_top: ("edgekit.convert.fast", "def run():\n    import tensorflow"),
    stages_do_not_print: ("edgekit.profile.fast", "print('done')"),
    no_error_is_swallowed: ("edgekit.store", "try:\n    run()\nexcept Exception:\n    pass"),
    models_stay_data: ("edgekit.recipe", "np.load(path, allow_pickle=True)"),
    nothing_unsafe_or_online_is_imported: ("edgekit.store", "import pickle"),
    names_say_something: ("edgekit.report.utils", ""),
    modules_are_small: ("edgekit.target", "x = 1\n" * (LONGEST_MODULE + 1)),
    modules_say_what_they_are: ("edgekit.recipe", "x = 1"),
    the_wall_clock_is_only_written_down: ("edgekit.store", "import time\nage_s = time.time() - 1"),
    user_errors_come_from_one_tree: ("edgekit.store", "class LockError(StageError): ..."),
}


@pytest.fixture(scope="module")
def modules() -> Modules:
    return _read_package()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule, modules: Modules) -> None:
    assert not sorted(rule(modules))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_finds_a_planted_violation(rule: Rule, modules: Modules) -> None:
    name, text = RULES[rule]
    assert set(rule({**modules, name: Module(name, text)})) - set(rule(modules))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("edgekit.prune.fast", "from edgekit import target"),
        ("edgekit.quantize.fast", "from ..recipe import Recipe"),
        ("edgekit.report.fast", "from edgekit.profile.latency import measure"),
    ],
)
def test_folders_keep_their_insides_finds_each_kind(name: str, text: str, modules: Modules) -> None:
    assert any(name in found for found in folders_keep_their_insides({**modules, name: Module(name, text)}))


def test_exit_codes_are_unique() -> None:
    codes = [error.exit_code for error in errors.ERRORS.values()] + [errors.EXIT_BUG, errors.EXIT_INTERRUPTED]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert 1 not in codes  # Python's own, for an exception nobody caught


def test_every_error_is_in_the_table() -> None:
    assert set(errors.EdgekitError.__subclasses__()) == set(errors.ERRORS.values())


def test_a_finer_error_ends_in_the_exit_code_of_its_kind_and_comes_whole_out_of_another_process() -> None:
    for kind in _finer_errors():
        assert kind.exit_code == kind.__bases__[0].exit_code
        assert errors.error_named(kind.__name__) is kind
        assert kind("what", "what to do").hint == "what to do"
        assert kind.__name__ in str(errors.__doc__)


def _finer_errors() -> list[type[errors.EdgekitError]]:
    return [kind for coarse in errors.ERRORS.values() for kind in coarse.__subclasses__()]


def _loaded_by(code: str, record: Path) -> set[str]:
    """Run ``code`` in a fresh interpreter, which must end well, and return the libraries it had imported."""
    script = f"""
import json, pathlib, sys
try:
    {code}
except SystemExit as stop:
    assert not stop.code, stop.code
finally:
    pathlib.Path({str(record)!r}).write_text(json.dumps(list(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(record.read_text()))


def _cli(*arguments: str) -> str:
    return f"from edgekit.cli import main; sys.argv = {['edgekit', *arguments]!r}; sys.exit(main())"


@pytest.mark.parametrize("code", ["import edgekit.cli", _cli("--help")], ids=["import", "help"])
def test_help_loads_no_heavy_library(code: str, tmp_path: Path) -> None:
    heavy = _loaded_by(code, tmp_path / "modules.json") & set(HEAVY)
    assert not heavy


def test_help_of_a_command_loads_no_heavy_library(tmp_path: Path) -> None:
    heavy = _loaded_by(_cli("build", "--help"), tmp_path / "modules.json") & set(HEAVY)
    assert heavy <= {"pydantic"}  # typer itself loads it to read a command's options


def test_dry_run_does_not_load_tensorflow(tmp_path: Path) -> None:
    recipe = ROOT / "sample_models/digits_detector/edgekit.toml"
    code = _cli("build", "-c", str(recipe), "-o", str(tmp_path / "out"), "--dry-run")
    loaded = _loaded_by(code, tmp_path / "modules.json")
    assert "edgekit.recipe" in loaded  # it did read the recipe
    slow = loaded & {"tensorflow", "keras"}
    assert not slow
