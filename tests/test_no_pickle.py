"""Nothing of ours reads code from bytes: no pickle in any guise, no eval, no checkpoint's code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("kernels", "engine", "jobs", "api", "benchmarks")
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "torch.load", "torch.jit.load", "numpy.load", "np.load", "yaml.load"}
SOURCES = sorted(path for wing in WINGS for path in (ROOT / wing).rglob("*.py"))


def faults(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str() as module) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(func=func) if ast.unparse(func) in CALLS:
                yield ast.unparse(func)
            case ast.keyword(arg="trust_remote_code", value=value):
                if ast.unparse(value) != "False":
                    yield "trust_remote_code"
            case ast.keyword(arg="serializer", value=ast.Constant(value="pickle")):
                yield "serializer='pickle'"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, dill",
        "from cloudpickle import loads",
        "def f():\n    import marshal",
        "torch.load('x')",
        "eval('1')",
        "AutoModel.from_pretrained('x', trust_remote_code=trust)",
        "producer.publish(1, serializer='pickle')",
    ],
)
def test_it_would_be_found(text: str) -> None:
    assert list(faults(text))


def test_nothing_of_the_kind_is_in_the_tree() -> None:
    assert len(SOURCES) > 200
    found = {
        str(path.relative_to(ROOT)): told
        for path in SOURCES
        if (told := list(faults(path.read_text(encoding="utf-8"))))
    }
    assert found == {}
