"""Files appear whole or not at all; tables as text."""

import csv
from pathlib import Path

import pytest

from experiments import report


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path, write_bytes = report.write_text(tmp_path / "page.md", "old"), Path.write_bytes

    def half(path, content):
        write_bytes(path, content[:1])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        report.write_text(path, "new")
    assert path.read_text() == "old"


def test_a_csv_holds_the_records_unrounded(tmp_path):
    records = [{"a": 0.1 + 0.2, "b": "x,y"}, {"a": 5e-324, "b": "λ"}]
    path = report.write_csv(tmp_path / "new" / "table.csv", records)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [{"a": float(row["a"]), "b": row["b"]} for row in rows] == records


def test_a_bar_in_a_cell_makes_no_column():
    assert report.markdown(["claim"], [["‖W‖ | η"]]).splitlines()[2].count("\\|") == 1
