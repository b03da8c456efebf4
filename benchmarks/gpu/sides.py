"""Runs the sides in processes of their own."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..processes import measured
from ..speed import texts
from ..speed.bases import MINILM, checkpoint
from ..speed.plan import MAX_LENGTH, RANK
from .plan import HF_PEFT, OURS, Run

ROOT = Path(__file__).parent.parent.parent
PEER = Path(__file__).parent.parent / "peers" / "hf_peft.py"
BFLOAT16, FLOAT32 = "bfloat16", "float32"
CPU = "cpu"
_LIMIT = 300.0


@dataclass(frozen=True)
class Sides:
    """Runs any side.

    Attributes:
        files: The rows.
        scratch: Folder for all files of the runs.
        peers: Python with PyTorch, transformers and PEFT.
        platform: The device: `gpu` or `cpu`.
        epochs: Number of epochs.
    """

    files: texts.Files
    scratch: Path
    peers: Path
    platform: str
    epochs: int

    def run(self, run: Run) -> dict[str, Any]:
        """Runs one side with products in bfloat16.

        Returns:
            Seconds of the frozen blocks, of each epoch and of the process, and the accuracy.

        Raises:
            SideFailed: If the process failed.
        """
        if run.side != HF_PEFT:
            return self.ours(run, platform=self.platform, precision=BFLOAT16)
        device = CPU if self.platform == CPU else "cuda"
        flags = [*self._rows(run), "--device", device, "--precision", BFLOAT16]
        command = [self.peers, PEER, "--model", checkpoint(run.base, self.scratch), *flags]
        said, seconds, _ = measured(command, scratch=self.scratch, limit=_LIMIT)
        return {"trunk_seconds": 0.0, **said, "whole_seconds": seconds}

    def ours(self, run: Run, *, platform: str, precision: str) -> dict[str, Any]:
        """Runs this package on a device; its losses are those of the epochs."""
        cache = self.scratch / "cache"
        shutil.rmtree(cache / "trunk", ignore_errors=True)
        base = MINILM if run.base == MINILM else checkpoint(run.base, self.scratch)
        flags = [*self._rows(run), "--out", self.scratch / "bundle", "--precision", precision]
        if run.side != OURS:
            flags.append("--no-trunk-cache")
        environment = {
            "KERAS_BACKEND": "jax",
            "KERAS_PEFT_CACHE": str(cache),
            "PYTHONPATH": str(ROOT / "src"),
            # The processes of both sides may share the GPU with others.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if platform == CPU:
            environment["JAX_PLATFORMS"] = CPU
        if precision == FLOAT32:  # Otherwise a GPU rounds the inputs of products.
            environment["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        command = [sys.executable, "-m", "benchmarks.gpu.ours", "--model", base, *flags]
        environment["PYTHONPATH"] += f":{ROOT}"
        said, seconds, _ = measured(command, scratch=self.scratch, limit=_LIMIT, environment=environment)
        return {**said, "whole_seconds": seconds}

    def _rows(self, run: Run) -> list[Any]:
        flags = ["--train", self.files.train, "--test", self.files.test, "--blocks", run.blocks]
        flags += ["--epochs", self.epochs, "--batch-size", run.batch_size, "--max-length", MAX_LENGTH]
        return [*flags, "--rank", RANK, "--seed", 0]
