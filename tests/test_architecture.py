"""The rules of the architecture: no circular imports, and light modules import no heavy packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scripts.imports import circle, floors, imports, modules, reduced, rooms

import keras_peft

PACKAGE = Path(keras_peft.__file__).parent

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
# Circular imports that are still allowed.
CIRCLES: set[tuple[str, str]] = set()
ROOM_CIRCLES: set[tuple[str, str]] = set()

# These read and encode rows, read bundles and compute predictions where Keras is not installed.
LIGHT = ("errors", "extras", "files", "store", "inputs", "tasks", "bundle", "runtime")
# The modules in these folders that run Keras.
RUNS_KERAS = {
    f"keras_peft.runtime.{name}"
    for name in ("inference", "trunk_runner", "mixed_batch", "mixed_batch_top", "shared_trunk")
}
HEAVY = {"keras", "keras_hub", "tensorflow", "jax", "torch", "polars", "sklearn", "scipy"}


def without(graph: dict[str, set[str]], edges: set[tuple[str, str]]) -> dict[str, set[str]]:
    assert not (gone := {(one, other) for one, other in edges if other not in graph[one]}), gone
    return {one: {other for other in others if (one, other) not in edges} for one, others in graph.items()}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, by the names in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_no_file_imports_itself_through_others():
    assert circle(without(imports(), CIRCLES)) == []


def test_no_folder_imports_itself_through_others():
    found = {
        # A folder may import from its own subfolders.
        room: {one for one in others if room == "keras_peft" or not one.startswith(f"{room}.")}
        for room, others in rooms().items()
    }
    assert circle(found) == []


def test_no_room_of_the_house_imports_itself_through_others():
    assert circle(floors()) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.py": "import house.b", "b.py": "def late():\n    from house import a"}, {"house.a", "house.b"}),
        (
            {"a.py": "if TYPE_CHECKING:\n    from house.b import B", "b.py": "from house.a import A"},
            {"house.a", "house.b"},
        ),
        ({"a.py": "from house.b import B", "b.py": "import os"}, set()),
    ],
)
def test_circles_are_found(tmp_path, files, expected):
    package = tmp_path / "house"
    package.mkdir()
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).write_text(text)
    assert set(circle(imports(package))) == expected


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"top": {"middle", "ground"}, "middle": {"ground"}, "ground": set()}
    assert reduced(graph) == {"top": {"middle"}, "middle": {"ground"}, "ground": set()}


def test_the_core_imports_only_keras():
    allowed = {"keras", "numpy", "regex", "safetensors", "keras_peft"} | sys.stdlib_module_names
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
        "from keras_peft.cli.application import build; build(['train', '--help'])",
        "import keras_peft; keras_peft.LoRA(rank=4); keras_peft.methods.LoHa(rank=4); keras_peft.read_examples",
        "import keras_peft; keras_peft.interop.__all__",
    ],
)
def test_the_quick_parts_import_no_keras(code):
    check = "import sys; assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)


def test_what_a_runtime_without_keras_needs_imports_nothing_heavy():
    found = [name for name in modules() if name.split(".")[1:2] and name.split(".")[1] in LIGHT]
    assert set(found) >= RUNS_KERAS
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    assert not (heavy := {HEAVY} & set(sys.modules)), f'{{name}} imports {{heavy}}'"
    )
    command = [sys.executable, "-c", code, *(name for name in found if name not in RUNS_KERAS)]
    assert (result := subprocess.run(command, stderr=subprocess.PIPE, text=True)).returncode == 0, (
        result.stderr
    )


def test_public_names_are_what_is_importable():
    assert sorted(keras_peft.__all__) == sorted([*keras_peft._HOMES, *keras_peft._NAMESPACES])
    for name in keras_peft.__all__:
        value = getattr(keras_peft, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_peft.nothing
    assert set(keras_peft.__all__) <= set(dir(keras_peft))


def test_all_methods_can_be_had_from_their_namespace():
    for name in keras_peft.methods.names():
        method = keras_peft.methods.find(name)
        assert getattr(keras_peft.methods, method.__name__) is method
        assert method.__name__ in dir(keras_peft.methods)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = keras_peft.methods.Nothing


def test_all_imports_and_exports_can_be_had_from_their_namespace():
    from keras_peft import forms

    functions = {
        value
        for module in forms.formats().values()
        for name, value in vars(module).items()
        if name.endswith(f"_{module.FORMAT.replace('-', '_')}")
    }
    assert functions
    assert functions <= {getattr(keras_peft.interop, name) for name in keras_peft.interop.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_peft.interop.nothing


def test_a_bundle_is_loaded_by_a_long_or_a_short_name():
    assert keras_peft.load is keras_peft.load_bundle


def test_no_two_test_files_have_the_same_name():
    """pytest imports them by their name alone."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
