"""Limits of memory, and freed memory that goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keras_peft.memory import limit_bytes


def test_the_lowest_limit_of_the_control_groups_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/system.slice/keras-peft.service\n")
    machine = limit_bytes(tmp_path, own)
    service = tmp_path / "system.slice" / "keras-peft.service"
    service.mkdir(parents=True)
    (service / "memory.max").write_text("max\n")
    assert limit_bytes(tmp_path, own) == machine > 0
    (service / "memory.max").write_text("5000\n")
    assert limit_bytes(tmp_path, own) == 5000
    (service.parent / "memory.max").write_text("4000\n")
    assert limit_bytes(tmp_path, own) == 4000


def test_the_first_version_of_control_groups(tmp_path):
    own = tmp_path / "own"
    own.write_text("9:memory:/docker/1f\n0::/docker/1f\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("3000\n")
    assert limit_bytes(tmp_path, own) == 3000
    assert limit_bytes(tmp_path, tmp_path / "none") > 3000


# Two blocks in turn, so that the freed ones lie between others.
_FREED = """
from keras_peft import memory
memory.keep_freed_memory()
def gaps():
    blocks = [bytes(1 << 20) + b"0" for _ in range(64)]
    kept = blocks[::2]
    blocks.clear()
    return kept
kept = gaps()
memory.{release}()
before = memory.rss_mb()
large = bytearray(b"1" * (96 << 20))
del large
print(memory.rss_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_large_array_after_the_training_leaves_no_memory_behind():
    def left(release):
        program = [sys.executable, "-c", _FREED.format(release=release)]
        return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)

    assert left("keep_freed_memory") > 80
    assert left("stop_keeping_freed_memory") < 16
