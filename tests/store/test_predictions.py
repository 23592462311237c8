"""Predictions as a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_emerge.store.predictions import write_predictions


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make(ids: list[str], tokens: list[str], rows: list[list[float]], dtype: torch.dtype = torch.float32) -> Any:
    return {"id": ids, "token": tokens, "probabilities": torch.tensor(rows, dtype=dtype)}


def test_each_exemplar_has_a_row_in_the_order_of_ids(tmp_path):
    path = tmp_path / "a folder" / "deeper" / "predictions.csv"
    batches = [
        make(["x/1", "x/0"], ["wug", "dax"], [[0.25, 0.75], [1, 0]]),
        make(["x/2"], ["dax"], [[2 / 3, 1 / 3]]),
    ]
    assert write_predictions(path, ["dax", "wug"], iter(batches)) == 3
    assert path.read_text().splitlines()[0] == "id,token,p_dax,p_wug"
    rows = read(path)
    assert [(row["id"], row["token"]) for row in rows] == [("x/0", "dax"), ("x/1", "wug"), ("x/2", "dax")]
    assert [float(row["p_dax"]) for row in rows] == pytest.approx([1, 0.25, 2 / 3], rel=1e-5)
    assert [float(row["p_wug"]) for row in rows] == pytest.approx([0, 0.75, 1 / 3], rel=1e-5)


def test_names_with_commas_quotes_and_accents_come_back(tmp_path):
    names = ['a, "b"', "żółw\nI"]
    write_predictions(tmp_path / "p.csv", names, [make(["é,1"], [names[1]], [[0.5, 0.25]])])
    (row,) = read(tmp_path / "p.csv")
    assert row == {"id": "é,1", "token": names[1], f"p_{names[0]}": "0.5", f"p_{names[1]}": "0.25"}


@pytest.mark.parametrize(
    ("value", "dtype"), [(1e-30, torch.float32), (0.123456789, torch.float64), (0.5, torch.bfloat16)]
)
def test_probabilities_keep_six_digits_in_any_precision(tmp_path, value, dtype):
    write_predictions(tmp_path / "p.csv", ["a"], [make(["x"], ["a"], [[value]], dtype)])
    assert float(read(tmp_path / "p.csv")[0]["p_a"]) == pytest.approx(value, rel=1e-5)


def test_no_prediction_is_a_table_without_rows_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "p.csv"
    write_predictions(path, ["a"], [make(["x"], ["a"], [[1]])])
    assert write_predictions(path, ["a"], []) == 0
    assert path.read_text().split() == ["id,token,p_a"]


def test_a_batch_whose_parts_disagree_is_refused(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_predictions(tmp_path / "p.csv", ["a"], [make(["x", "y"], ["a"], [[1]])])
