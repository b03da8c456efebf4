"""Builds the root folder of the image: Python, the server's packages and what they need, and nothing else.

    python deploy/build_root.py FOLDER

Run it in a checkout. The packages are those of the extras `onnx` and `serve`, without Keras and TensorFlow. Python
itself, its standard library and the shared libraries are copied from the interpreter that runs this script.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
EXTRAS = ("onnx", "serve")
# Parts of the standard library and of the packages that a server does not need.
UNUSED_LIBRARY = {
    "__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests",
    "tkinter", "turtledemo", "turtle.py", "_test*", "_tkinter*", "_ctypes_test*", "xxlimited*",
}  # fmt: skip
# Left out of every package, and of some packages.
UNUSED = {"__pycache__", "*.pyi", "*.h", "*.hpp", "tests", "pip", "pip-*", "setuptools*"}
UNUSED_OF = {
    ".": {"bin", "hf_xet*"},  # hf_xet only speeds up downloads.
    "numpy": {"distutils", "f2py"},
    "onnx": {"backend", "reference"},
    "onnxruntime": {"datasets", "quantization", "tools", "transformers"},
}
USER = 10001


def main(root: Path) -> None:
    """Builds the folder."""
    if root.exists():
        sys.exit(f"{root} exists; choose another folder, or remove it.")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = root / "usr" / "lib" / version
    with tempfile.TemporaryDirectory() as scratch:
        site = install(Path(scratch))
        copy_library(Path(sysconfig.get_path("stdlib")), library)
        copy_packages(site, library / "site-packages")
    interpreter = root / "usr" / "bin" / "python3"
    interpreter.parent.mkdir(parents=True)
    shutil.copy2(Path(sys.executable).resolve(), interpreter)
    copy_shared_libraries(root)
    write_system_files(root)
    strip(root)


def install(scratch: Path) -> Path:
    """Installs the packages into a folder; returns it."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in EXTRAS for one in project["optional-dependencies"][extra]),
    ]
    packages = [one for one in wanted if re.split(r"[<>=;\[ ]", one)[0] not in ("keras", "keras-peft")]
    site = scratch / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--target", site, *packages], check=True)
    subprocess.run([*pip, "--target", site, "--no-deps", CHECKOUT], check=True)
    return site


def copy_library(source: Path, target: Path) -> None:
    """Copies the standard library."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*UNUSED_LIBRARY))


def copy_packages(source: Path, target: Path) -> None:
    """Copies the packages, without their tests and tools."""

    def unused(folder: str, names: list[str]) -> set[str]:
        relative = Path(folder).relative_to(source)
        more = UNUSED_OF.get(str(relative), set())
        return set(shutil.ignore_patterns(*UNUSED, *more)(folder, names))

    shutil.copytree(source, target, ignore=unused)


def copy_shared_libraries(root: Path) -> None:
    """Copies the libraries of the system that the programs and modules link to."""
    own = [
        path
        for path in root.rglob("*")
        if path.is_file() and (".so" in path.name or path.parent.name == "bin")
    ]
    for source, name in sorted({found for path in own for found in linked(path)}):
        if source.is_relative_to(root):
            continue
        # Wherever Python's own library is here, it is found there.
        target = root / ("usr/lib/" + name if name.startswith("libpython") else source.relative_to("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(source.resolve(), target)


def linked(path: Path) -> Iterator[tuple[Path, str]]:
    """Yields the path and the name of each library that a file links to."""
    said = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    for line in said.splitlines():
        if found := re.search(r"(\S+) => (/\S+)|^\s*(/\S+)", line):
            place = Path(found[2] or found[3])
            yield place, found[1] or place.name


def strip(root: Path) -> None:
    """Removes Python's symbols for debuggers, if the program for that is there.

    The libraries of wheels are left as they are: their layout was changed when they were packed.
    """
    if shutil.which("strip"):
        files = [path for path in root.rglob("*.so*") if path.is_file() and "site-packages" not in path.parts]
        subprocess.run(["strip", "--strip-unneeded", *files], stderr=subprocess.DEVNULL, check=False)


def write_system_files(root: Path) -> None:
    """Writes the few files that Python and its packages read of a system."""
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text(f"root:x:0:0::/:\nserver:x:{USER}:{USER}::/tmp:\n")
    (root / "etc" / "group").write_text(f"root:x:0:\nserver:x:{USER}:\n")
    (root / "etc" / "nsswitch.conf").write_text("hosts: files dns\n")
    for folder in ("tmp", "bundles", "cache", "proc", "dev"):
        (root / folder).mkdir()
    (root / "tmp").chmod(0o1777)
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.is_file():
        (root / "etc" / "ssl" / "certs").mkdir(parents=True)
        shutil.copy2(certificates, root / "etc" / "ssl" / "certs")
    command = root / "usr" / "bin" / "keras-peft"
    command.write_text("#!/usr/bin/python3\nfrom keras_peft.cli import main\n\nmain()\n")
    command.chmod(0o755)
    os.sync()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute())
