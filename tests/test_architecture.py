"""What the source may look like: which module imports which, what stays lazy, what is never swallowed.

Each rule holds, and a planted violation shows that it can fail.
"""

from __future__ import annotations

import pytest
from architecture_rules import RULES, Module, Modules, Rule, folders_keep_their_insides, read_package


@pytest.fixture(scope="module")
def modules() -> Modules:
    return read_package()


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
