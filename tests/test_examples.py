"""The CI examples, run step by step as the services do, in a git project with a base branch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from project import edit

from edgekit.report.comment import MARKER

EXAMPLES = Path(__file__).parents[1] / "examples/ci"
INSTALL = "Install edgekit"  # from the network: not run here
EXPRESSIONS = {"github.event.pull_request.number": "7", "github.token": "secret", "vars.EDGEKIT_REPOSITORY": "none"}
GITLAB = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")


def read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return found


def git(folder: Path, *arguments: str) -> None:
    subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A clone whose remote has a recipe on ``main``, with a warm store; ``gh`` writes down how it was called."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(finished, origin, ignore=shutil.ignore_patterns("out"))
    (origin / ".gitignore").write_text("edgekit-build/\n.base/\n")
    git(origin, "init", "-q")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "a model")
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    shutil.copytree(finished / "out/store", clone / "edgekit-build/store")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "edgekit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgekit "$@"\n')
    (programs / "gh").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/gh"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return clone


def environment(project: Path, **more: str) -> dict[str, str]:
    path = f"{project.parent / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "200", **more}


def shell(command: str, project: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does."""
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
    return subprocess.run(
        words, cwd=project, env=environment(project, **more), capture_output=True, text=True, timeout=300
    )


def filled(text: str) -> str:
    return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda match: EXPRESSIONS[match[1]], text)


def run_github(project: Path) -> tuple[list[str], str]:
    """Run the job's steps; return the names of the failed ones and all that was printed."""
    workflow = read("github-actions.yml")
    [job] = workflow["jobs"].values()
    variables = {name: filled(value) for name, value in workflow["env"].items()}
    variables |= {"GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(project.parent / "summary.md")}
    failed: list[str] = []
    printed = ""
    for step in job["steps"]:
        if "run" not in step or step["name"] == INSTALL or (failed and "always()" not in step.get("if", "")):
            continue
        done = shell(step["run"], project, **variables)
        printed += done.stdout + done.stderr
        failed += [step["name"]] * (done.returncode != 0)
    return failed, printed


def uploads(project: Path) -> Iterator[Path]:
    [job] = read("github-actions.yml")["jobs"].values()
    for step in job["steps"]:
        for key in ("path", "sarif_file"):
            for line in step.get("with", {}).get(key, "").split():
                yield project / line


def worse(project: Path) -> None:
    edit(project, "[budget]\n", "[budget]\nspeedup = 1000\n")


@pytest.mark.slow
def test_github_actions(project: Path) -> None:
    failed, printed = run_github(project)
    assert not failed, printed
    for path in uploads(project):
        assert path.exists(), path
    comment = (project / "comment.md").read_text()
    assert comment.startswith(MARKER)
    assert "passes" in comment
    assert (project.parent / "summary.md").read_text() == comment
    assert (project.parent / "gh").read_text() == "pr comment 7 --body-file comment.md --edit-last --create-if-none\n"


@pytest.mark.slow
def test_the_job_in_the_readme(project: Path) -> None:
    [block] = re.findall(
        r"^```yaml\n(.*?)^```", (EXAMPLES.parents[1] / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    [job] = yaml.safe_load(block)["jobs"].values()
    commands = [step["run"] for step in job["steps"] if step.get("run", "").startswith("edgekit ")]
    summary = {"GITHUB_STEP_SUMMARY": str(project.parent / "summary.md")}
    assert [shell(command, project, **summary).returncode for command in commands] == [0, 0]
    assert (project / "junit.xml").exists()
    worse(project)
    assert [shell(command, project, **summary).returncode for command in commands] == [0, 7]


@pytest.mark.slow
@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_the_first_change_has_nothing_to_be_compared_with_and_passes(project: Path, service: str) -> None:
    git(project.parent / "origin", "rm", "-q", "edgekit.toml")
    git(project.parent / "origin", "commit", "-qm", "no recipe yet")
    git(project, "fetch", "-q", "origin")
    if service == "github":
        failed, printed = run_github(project)
        assert not failed, printed
    else:
        done = shell("\n".join(read("gitlab-ci.yml")["edgekit"]["script"]), project, **GITLAB)
        assert done.returncode == 0, done.stdout + done.stderr
    assert not (project / "baseline.json").exists()
    assert "passes" in (project / "comment.md").read_text()


@pytest.mark.slow
def test_github_actions_on_a_missed_budget(project: Path) -> None:
    worse(project)
    failed, printed = run_github(project)
    assert failed == ["Check"], printed
    [line] = [number for number, text in enumerate((project / "edgekit.toml").read_text().split("\n"), 1)
              if text.startswith("speedup")]  # fmt: skip
    assert f"::error file=edgekit.toml,line={line},title=edgekit%3A raspberry-pi-4 speedup::" in printed
    assert "1 violation" in (project / "comment.md").read_text()
    assert (project.parent / "gh").exists()  # the comment is written all the same


@pytest.mark.slow
@pytest.mark.parametrize("passes", [True, False])
def test_gitlab_ci(project: Path, passes: bool) -> None:
    if not passes:
        worse(project)
    job = read("gitlab-ci.yml")["edgekit"]
    done = shell("\n".join(job["script"]), project, **GITLAB)
    assert done.returncode == (0 if passes else 7), done.stdout + done.stderr
    suites = ElementTree.parse(project / job["artifacts"]["reports"]["junit"]).getroot()
    assert (suites.attrib["failures"] == "0") == passes
    assert all((project / path).exists() for path in job["artifacts"]["paths"])


@pytest.mark.slow
def test_make(project: Path) -> None:
    shutil.copyfile(EXAMPLES / "Makefile", project / "Makefile")

    def make(*goals: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *goals], cwd=project, env=environment(project), capture_output=True, text=True, timeout=300
        )

    first = make()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "--baseline" not in first.stdout
    assert make("baseline").returncode == 0
    again = make("check")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "--baseline baseline.json" in again.stdout
    worse(project)
    last = make()
    assert last.returncode == 2
    assert "Speed-up" in last.stdout


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_examples_say_where_edgekit_comes_from(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    assert "$EDGEKIT_REPOSITORY" in text
    assert "pip install edgekit" not in text  # that name belongs to another project
