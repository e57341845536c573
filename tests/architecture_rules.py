"""The rules of the source: each is a function from parsed modules to violations, and has a module that breaks it."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from architecture_tables import (
    ANSWERS_EVERY_ERROR,
    BANNED_NAMES,
    CENTRAL,
    DATED,
    HIDDEN_FROM_STAGES,
    LAZY,
    LONGEST_MODULE,
    NEVER_IMPORTED,
    ON_THE_DEVICE,
    RANK,
    RUNS_NAMED_CODE,
    SHARED,
    STAGES,
    UNSAFE_ARGUMENTS,
    WALL_CLOCKS,
)

from edgekit import errors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgekit"


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


def read_package() -> Modules:
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
            if module.part in STAGES and target.startswith(HIDDEN_FROM_STAGES):
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
                if bases & {"EdgekitError", *errors.ERRORS, *(kind.__name__ for kind in finer_errors())}:
                    yield f"{module.name} defines {node.name}"


def _called(node: ast.AST) -> str:
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def _is_broad(node: ast.AST) -> bool:
    caught = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(ast.unparse(one) in {"Exception", "BaseException"} for one in caught)


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def finer_errors() -> list[type[errors.EdgekitError]]:
    """Return the errors that end in the exit code of their kind."""
    return [kind for coarse in errors.ERRORS.values() for kind in coarse.__subclasses__()]


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
