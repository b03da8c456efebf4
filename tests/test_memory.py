from __future__ import annotations

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
