"""The rules of the tree: imports point down only, and the quick parts stay quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_peft

PACKAGE = Path(keras_peft.__file__).parent

# From the bottom up. A file imports from lower levels, or from its own folder.
LEVELS = [
    ["errors", "files", "casing", "memory", "stopwatch"],
    ["core", "readers", "store"],
    ["methods", "bases", "tasks", "duplicates"],
    ["attach", "arithmetic", "adapter_files", "sources", "data", "tokens", "progress", "cache"],
    ["batches", "inference", "generate"],
    ["evaluate", "features", "checkpoint", "tracking"],
    ["train", "report"],
    ["bundle", "settings"],
    ["predict", "prepare"],
    ["job"],
    ["folds", "rates"],
    ["check", "explanation", "interop"],
    ["splitting", "pushing", "serve"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports anywhere but under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "keras_peft":
                found |= {f"keras_peft.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = part_of(path)
    assert part in LEVEL, f"{part} has no level yet; give it one in LEVELS"
    for module in imports_of(path):
        if module.startswith("keras_peft."):
            other = module.split(".")[1]
            if other.startswith("_"):
                continue
            assert other == part or LEVEL[other] < LEVEL[part], f"{part} imports {other}"


def test_the_core_imports_only_keras():
    allowed = {"keras", "numpy", "safetensors", "keras_peft"} | sys.stdlib_module_names
    for path in (PACKAGE / "core").glob("*.py"):
        foreign = {module for module in imports_of(path) if module.split(".")[0] not in allowed}
        assert not foreign, f"{path.name} imports {foreign}"


def test_method_names_decide_nothing_outside_their_folder():
    from keras_peft import methods

    names = {name for one in methods.names() for name in (one, one.replace("-", "_"))}
    for path in FILES:
        if part_of(path) == "methods":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                compared = {
                    c.value
                    for c in ast.walk(node)
                    if isinstance(c, ast.Constant) and isinstance(c.value, str)
                }
                assert not compared & names, f"{path.name}:{node.lineno} compares with {compared & names}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_exits(path):
    if part_of(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "sys.exit", "exit"}, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize(
    "code",
    [
        "import keras_peft",
        "from keras_peft.cli import build; build(['train', '--help'])",
        "import keras_peft; keras_peft.LoRA(rank=4); keras_peft.read_examples",
    ],
)
def test_the_quick_parts_import_no_keras(code):
    check = "import sys; assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)


def test_public_names_are_what_is_importable():
    assert sorted(keras_peft.__all__) == sorted(keras_peft._HOMES)
    for name in keras_peft.__all__:
        value = getattr(keras_peft, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_peft.nothing
    assert set(keras_peft.__all__) <= set(dir(keras_peft))
