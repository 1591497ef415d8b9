"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from experiments import report


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path, write_bytes = report.write_text(tmp_path / "page.md", "old"), Path.write_bytes

    def half(path, content):
        write_bytes(path, content[:1])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        report.write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
