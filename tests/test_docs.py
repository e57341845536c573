"""The documents say what is true: every command, option, link and make target that they name exists."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from edgekit import __version__
from edgekit.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
DOCUMENTS = [
    README,
    CHANGELOG,
    ROOT / "sample_models/README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
]
CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")

_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?: {4}[^\n]*(?:\n|\Z)|\n)+)")
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)|\b(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
_OPTION = re.compile(r"-{1,2}[A-Za-z][\w-]*")
_SHELL_END = re.compile(r"\s(?:\||\|\||&&|;|>|>>|2>|<|·)(?:\s|$)")


def _code(text: str) -> str:
    """Return all that a document sets as code: fenced, indented and inline."""
    blocks = [match[1] for match in _FENCE.findall(text)]
    prose = _FENCE.sub("", text)
    return "\n".join([*blocks, *_INDENTED.findall(prose), *_INLINE.findall(prose)])


def _prose(text: str) -> str:
    return _INLINE.sub("", _FENCE.sub("", text))


def _command_lines(text: str, program: str) -> list[list[str]]:
    """Return the words after ``program`` of each line of code that calls it, up to a pipe or a comment."""
    found = []
    for line in _code(text).replace("\\\n", " ").splitlines():
        called = re.match(rf"\s*(?:\$ )?(?:\S*/)?{program}(?=\s|$)(.*)", line)
        if called:
            words = _SHELL_END.split(re.sub(r"\s#.*", "", called[1]))[0]
            found.append(shlex.split(words.replace("'", "\\'") if words.count("'") % 2 else words))
    return found


def _root() -> Any:
    return typer.main.get_command(app)


def _commands() -> dict[str, Any]:
    return dict(_root().commands)


def _options(command: Any) -> set[str]:
    return {"--help", *(name for param in command.params for name in (*param.opts, *param.secondary_opts))}


def _complaints(words: list[str]) -> Iterator[str]:
    """Say what the command line has not: the command, or one of the options."""
    command = _root()
    for number, word in enumerate(words):
        if hasattr(command, "commands") and not word.lstrip("[").startswith("-"):
            if word not in command.commands:
                if word.strip("[]<>.") != "COMMAND":  # a placeholder
                    yield f"there is no command {word!r}"
                return
            command = command.commands[word]
            continue
        option = _OPTION.match(word.lstrip("["))
        if option and option[0] not in _options(command):
            yield f"{' '.join(['edgekit', *words[:number]])} has no option {option[0]}"


def _anchors(document: Path) -> set[str]:
    """Return the anchors that the headings of a Markdown file get."""
    headings = re.findall(r"^#+\s+(.*?)\s*#*$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def _dead_links(document: Path, text: str) -> Iterator[str]:
    for link in filter(None, itertools.chain.from_iterable(_LINK.findall(_prose(text)))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            yield link


def test_readme_names_every_command() -> None:
    named = {words[0] for words in _command_lines(README.read_text(), "edgekit") if words}
    assert not _commands().keys() - named


def test_readme_says_how_to_try_and_to_test() -> None:
    calls = _command_lines(README.read_text(), "make")
    assert ["demo"] in calls
    assert ["test"] in calls


def test_every_command_says_what_it_does() -> None:
    assert not [name for name, command in _commands().items() if not command.help]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestDocument:
    def test_command_lines_parse(self, document: Path) -> None:
        calls = _command_lines(document.read_text(), "edgekit")
        assert not [complaint for words in calls for complaint in _complaints(words)]

    def test_make_targets_exist(self, document: Path) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        calls = _command_lines(document.read_text(), "make")
        assert not {word for words in calls for word in words if re.fullmatch(r"[a-z-]+", word)} - targets

    def test_links_lead_somewhere(self, document: Path) -> None:
        assert not list(_dead_links(document, document.read_text()))

    def test_the_index_is_not_recommended(self, document: Path) -> None:
        """The name belongs to another project there: edgekit installs from a checkout."""
        assert not re.search(r"pip install (?:-U |--upgrade )?edgekit\b", document.read_text())


def test_a_wrong_command_line_is_found() -> None:
    text = "Run `edgekit bild`.\n\n    edgekit build --nowhere\n\n```\n$ edgekit build --help | tee log\n```\n"
    calls = _command_lines(text, "edgekit")
    assert sorted(calls) == [["bild"], ["build", "--help"], ["build", "--nowhere"]]
    complaints = [complaint for words in calls for complaint in _complaints(words)]
    assert sorted(complaints) == ["edgekit build has no option --nowhere", "there is no command 'bild'"]


def test_a_dead_link_is_found() -> None:
    text = "[a](README.md) [b](nowhere.md) [c](https://example.org) [d](CHANGELOG.md#nowhere) ![e](x.png)"
    assert list(_dead_links(README, text)) == ["nowhere.md", "CHANGELOG.md#nowhere", "x.png"]


def test_changelog_has_the_shape_of_keep_a_changelog() -> None:
    title, *sections = re.split(r"^## ", CHANGELOG.read_text(), flags=re.MULTILINE)
    assert title.startswith("# Changelog\n")
    assert "keepachangelog.com" in title
    headings = [section.splitlines()[0] for section in sections]
    assert headings[0] == "[Unreleased]"
    for heading in headings[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading)
    for section in sections:
        kinds = re.split(r"^### ", section, flags=re.MULTILINE)[1:]
        assert {kind.splitlines()[0] for kind in kinds} <= set(CHANGES)
        assert not [kind for kind in kinds if not re.search(r"^- \S", kind, re.MULTILINE)]


def test_changelog_versions_fall_from_the_present_one() -> None:
    found = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG.read_text(), re.MULTILINE)
    versions = [_numbers(version) for version in found]
    assert versions == sorted(set(versions), reverse=True)
    assert all(version <= _numbers(__version__) for version in versions)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
