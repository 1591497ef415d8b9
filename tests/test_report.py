"""Files appear whole or not at all."""

import csv

import pytest

from experiments import report


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "page.md"
    report.write_text(path, "old")
    with pytest.raises(OSError, match="disk full"), report.replacing(path) as partial:
        partial.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_csv_holds_the_records_unrounded(tmp_path):
    records = [{"a": 0.1 + 0.2, "b": "x,y"}, {"a": 5e-324, "b": "λ"}]
    path = report.write_csv(tmp_path / "new" / "table.csv", records)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [{"a": float(row["a"]), "b": row["b"]} for row in rows] == records


def test_a_bar_in_a_cell_makes_no_column():
    assert report.markdown(["claim"], [["‖W‖ | η"]]).splitlines()[2].count("\\|") == 1
