"""Checks the root folder of the image in a chroot, as root. `make image-root` runs it; pytest does not.

    python tests/image_root.py FOLDER

The server runs as another user, without Keras, on a tiny base; then the same folder predicts with an export.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from conftest import TINY
from keras_peft import forms
from serve.bundles import write_bundle

CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
MOST_MB = 250
PORT = 8321
KEY = "k" * 24
ENVIRONMENT = {"PATH": "/usr/bin", "PYTHONHOME": "/usr", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def inside(root: Path, *arguments: str) -> list[str]:
    return [CHROOT, "--userspec=10001:10001", str(root), "/usr/bin/python3", *arguments]


def answer(path: str, body: object = None) -> object:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        content = response.read()
    return json.loads(content) if content.startswith((b"{", b"[")) else content.decode()


def serves(root: Path) -> None:
    command = inside(root, "/usr/bin/keras-peft", "serve", "--config", "/etc/keras-peft/serve.toml")
    more = ["--base", "/base", "--port", str(PORT), "--engine", "onnx"]
    environment = {**ENVIRONMENT, "KERAS_PEFT_API_KEY": KEY}
    with subprocess.Popen([*command, *more], env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            waits_until_ready(server)
            scores = answer("/predict", {"inputs": "the model", "adapter_id": "mood"})
            assert {one["label"] for one in scores} == {"alpha", "beta"}, scores
        finally:
            server.terminate()
        said = server.communicate(timeout=60)[1]
    assert server.returncode == 0, said
    assert "keras on" not in said


def waits_until_ready(server: subprocess.Popen[str]) -> None:
    for _ in range(300):
        if server.poll() is not None:
            sys.exit(f"The server ended: {server.stderr.read()}")
        try:
            if answer("/readyz"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    sys.exit("The server did not become ready.")


def predicts(root: Path) -> None:
    command = inside(root, "/usr/bin/keras-peft", "predict", "/exported", "the model", "--json")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["label"] in ("alpha", "beta")
    code = "import importlib.util as u; assert not u.find_spec('keras') and not u.find_spec('tensorflow')"
    subprocess.run(inside(root, "-c", code), env=ENVIRONMENT, check=True)


def main(root: Path) -> None:
    size = megabytes(root)
    print(f"The root folder has {size:.0f} MB.")  # noqa: T201
    assert size <= MOST_MB
    write_bundle(root / "bundles" / "mood")
    forms.export(root / "bundles" / "mood", out=root / "exported", format="onnx")
    shutil.copytree(TINY, root / "base")
    (root / "etc" / "keras-peft").mkdir()
    shutil.copy(Path(__file__).parent.parent / "deploy" / "serve.toml", root / "etc" / "keras-peft")
    for path in [root / "bundles", root / "exported", root / "base"]:
        subprocess.run(["chmod", "-R", "a+rX", str(path)], check=True)
    serves(root)
    predicts(root)


if os.geteuid() != 0:
    sys.exit("Only root may change the root folder of a process.")
main(Path(sys.argv[1]).absolute())
