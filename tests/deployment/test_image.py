"""The Dockerfile: pinned, small, without secrets, and complete for the package it is to hold."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
IGNORED = [
    line
    for line in (ROOT / ".dockerignore").read_text().splitlines()
    if line and not line.startswith("#")
]

MIRROR = "--mount=type=secret,id=pip,target=/etc/pip.conf "


def instructions() -> list[tuple[str, str]]:
    """Read the file as a builder would: comments away, continued lines together."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", TEXT))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in pairs]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def is_in_context(path: str) -> bool:
    """Apply .dockerignore: the last pattern that fits the path, or a folder above it, decides."""
    parts = PurePosixPath(path)
    names = [str(each) for each in [parts, *parts.parents] if str(each) != "."]
    is_in = True
    for line in IGNORED:
        pattern = line.removeprefix("!")
        patterns = [pattern, pattern.removeprefix("**/")]
        if any(fnmatch.fnmatch(name, each) for name in names for each in patterns):
            is_in = line.startswith("!")
    return is_in


def packaged() -> list[str]:
    """All files that belong in the wheel, by pyproject.toml."""
    tool = PROJECT["tool"]["setuptools"]
    files = [PROJECT["project"]["readme"], "pyproject.toml"]
    for package in tool["packages"]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        files += [str(path.relative_to(ROOT)) for path in folder.glob("*.py")]
        for pattern in tool["package-data"].get(package, []):
            found = [path for path in folder.glob(pattern) if path.is_file()]
            assert found, f"{package} has no {pattern}"
            files += [str(path.relative_to(ROOT)) for path in found]
    return [name for name in files if "__pycache__" not in name]


def test_the_context_holds_all_of_the_package_and_nothing_more() -> None:
    files = packaged()
    assert len(files) > 200
    assert [name for name in files if not is_in_context(name)] == []
    others = [".git/HEAD", ".env", ".venv/bin/python", "api/__pycache__/app.cpython-312.pyc"]
    others += ["docs/api.md", "out/rows.parquet", "penstock-data/x", "tests/conftest.py"]
    assert [name for name in others if is_in_context(name)] == []


def test_what_is_copied_is_there() -> None:
    for word, rest in instructions():
        if word == "COPY":
            *sources, _ = [each for each in rest.split() if not each.startswith("--")]
            assert all((ROOT / each).exists() and is_in_context(f"{each}/x") for each in sources
                       if each != ".")  # fmt: skip


def test_the_skeleton_is_all_that_setuptools_needs_and_none_of_our_code(tmp_path: Path) -> None:
    """By it come all dependencies, so only pyproject.toml may make them come anew."""
    [copied] = [rest for word, rest in stages()[-1] if word == "COPY"]
    assert copied == "pyproject.toml ./"
    [command] = [rest for word, rest in instructions() if word == "RUN" and "tomllib" in rest]
    making, _, _ = command.removeprefix(MIRROR).partition("&& pip install")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", making], cwd=tmp_path, env=path, check=True, timeout=60)
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        assert tmp_path.joinpath(*package.split(".")[1:]).is_dir()
    version = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert version == "penstock.__version__"
    assert (tmp_path / "__init__.py").read_text() == '__version__ = "0"'
    for name in (PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]):
        assert (tmp_path / name).is_file()


def test_the_cpu_build_of_torch_is_never_replaced_in_silence() -> None:
    """Beside an extra index that cannot be reached, pip takes PyPI's build, which is for CUDA."""
    [command] = [rest for word, rest in instructions() if word == "RUN" and "torch==" in rest]
    assert '--index-url="${TORCH_INDEX}"' in command
    assert "--no-deps" in command, "that index has nothing else"
    assert "--extra-index-url" not in TEXT


def test_everything_is_pinned() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", arguments["PYTHON"])
    assert {stage[0][1].split()[0] for stage in stages()} == {"python:${PYTHON}"}
    makefile = (ROOT / "Makefile").read_text()
    assert f"torch=={arguments['TORCH']}\n" in makefile, "the one that is tested"
    assert "ADD" not in {word for word, _ in instructions()}


@pytest.mark.parametrize("word", ["ARG", "ENV"])
def test_no_secret_is_asked_for_nor_kept(word: str) -> None:
    told = " ".join(rest for each, rest in instructions() if each == word)
    assert not re.search(r"(?i)key|token=|secret|password", told)


def test_whatever_asks_an_index_may_ask_a_mirror() -> None:
    """By a pip.conf that is lent to the command, as it may hold a password."""
    asking = [rest for word, rest in instructions() if word == "RUN" and "pip " in rest]
    assert [rest.startswith(MIRROR) for rest in asking] == [
        "/wheels/*.whl" not in rest for rest in asking
    ]


@pytest.mark.parametrize(
    ("torch_index", "comes_from"), [("told", "told"), ("", "configured")], ids=["told", "empty"]
)
def test_torch_comes_from_the_index_that_is_told_whatever_pip_conf_says(
    tmp_path: Path, torch_index: str, comes_from: str
) -> None:
    """So the head of the file says how both are told where there is a mirror."""
    [command] = [rest for word, rest in instructions() if word == "RUN" and "torch==" in rest]
    for index in ("configured", "told"):
        wheel = tmp_path / index / "torch" / "torch-0.0.0-py3-none-any.whl"
        wheel.parent.mkdir(parents=True)
        with ZipFile(wheel, "w") as file:
            file.writestr("torch-0.0.0.dist-info/METADATA", "Name: torch\nVersion: 0.0.0\n")
            file.writestr("torch-0.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        (wheel.parent / "index.html").write_text(f'<!doctype html><a href="{wheel.name}">it</a>')
    conf = f"[global]\nindex-url = {(tmp_path / 'configured').as_uri()}\nextra-index-url =\n"
    (tmp_path / "pip.conf").write_text(conf)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "TORCH": "0.0.0",
        "TORCH_INDEX": torch_index and (tmp_path / torch_index).as_uri(),
    }
    looking = "python -m pip install --dry-run --ignore-installed --quiet --report=report.json"
    command = command.removeprefix(MIRROR).replace("pip install", looking)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=True, timeout=60)
    [found] = json.loads((tmp_path / "report.json").read_text())["install"]
    assert found["download_info"]["url"].startswith((tmp_path / comes_from).as_uri())


def test_the_head_tells_both_indexes_where_there_is_a_mirror() -> None:
    head = re.sub(r"\\\n#\s*", "", TEXT.partition("\n\n")[0])
    builds = re.findall(r"(?m)^#\s+docker build (.*)", head)
    assert len(builds) == 3
    [mirrored] = [build for build in builds if "--secret id=pip,src=" in build]
    assert "--build-arg TORCH_INDEX=https://" in mirrored


def test_the_last_stage_is_what_runs() -> None:
    *_, last = stages()
    words = [word for word, _ in last]
    user = dict(last)["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), (
        "a number, or Kubernetes cannot tell it is no root"
    )
    assert words.index("USER") > max(at for at, word in enumerate(words) if word == "RUN")
    assert "HEALTHCHECK" in words and "CMD" in words and "ENTRYPOINT" not in words
    made_for = re.search(r"useradd --uid (\d+)", TEXT)
    assert made_for is not None and user.startswith(f"{made_for[1]}:")


def test_layers_keep_no_caches() -> None:
    for word, rest in instructions():
        if word == "RUN":
            assert rest.count("pip install") + rest.count("pip wheel") == rest.count(
                "--no-cache-dir"
            )
            assert ("apt-get install" in rest) == ("rm -rf /var/lib/apt/lists" in rest)


def test_code_comes_after_what_it_depends_on() -> None:
    """So a change of our code costs one small layer."""
    *_, last = stages()
    kinds = [rest for word, rest in last if word in ("RUN", "COPY")]
    order = ["apt-get", "torch==", "pyproject.toml", "'.[all]'", "/wheels/*.whl"]
    places = [next(at for at, rest in enumerate(kinds) if each in rest) for each in order]
    assert places == sorted(places)
