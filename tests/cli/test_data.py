"""`lightning data` and `lightning sheet` as a user gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from lightning_emerge.cli import main

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
FEW = ["--data.exemplars", "6", "--data.min_exemplars", "1", "--data.image_size", "16"]


def test_data_writes_a_folder_and_completes_it(tmp_path, capfd):
    arguments = ["data", "--config", SMOKE, *FEW, "--out", str(tmp_path / "out")]
    main(arguments)
    assert f"270 of 270 exemplars were written to {tmp_path / 'out'}" in capfd.readouterr().out
    (tmp_path / "out/bank/toma/000003.png").unlink()
    main(arguments)
    assert "1 of 270 exemplars were written" in capfd.readouterr().out
    with Image.open(tmp_path / "out/train/dax/000005.png") as picture:
        assert picture.size == (16, 16)


def test_data_shows_how_far_it_is(tmp_path, capfd):
    main(["data", "--config", SMOKE, *FEW, "--out", str(tmp_path / "out")])
    assert "270/270" in capfd.readouterr().err


def test_data_takes_the_configuration_that_a_run_has_saved(tmp_path):
    settings = yaml.safe_load(Path(SMOKE).read_text()) | {"ckpt_path": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    main(["data", "--config", str(tmp_path / "config.yaml"), *FEW, "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "latents.parquet").exists()


def test_sheet_draws_a_picture(tmp_path, capfd):
    main(["sheet", "--config", SMOKE, "--data.nuisances.preset", "hard", "--out", str(tmp_path / "new" / "sheet.png")])
    assert capfd.readouterr().out == f"{tmp_path / 'new' / 'sheet.png'}\n"
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert picture.size[0] == 1100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "--config", SMOKE], ["--out names what to write"]),
        (
            ["data", "--config", SMOKE, "--out", "new", "--data.exemplar", "6"],
            ["'exemplar'", "Did you mean exemplars?"],
        ),
        (["data", "--config", SMOKE, "--out", "new", "--data.exemplars", "6"], ["min_exemplars (500)", "got 6"]),
        (["data", "--config", SMOKE, "--out", "full"], ["full is neither"]),
        (["data", "--config", "smok.yaml", "--out", "new"], ["--config names a file", "smok.yaml"]),
        (["data", "--config", SMOKE, "--ot", "new"], ["--ot", "Did you mean --out?"]),
        (["data", "--out", "new"], ["data", "--config vgg5"]),
        (["sheet", "--config", SMOKE, "--out", "sheet.gof"], ["gof"]),
        (
            ["sheet", "--config", SMOKE, "--out", "a.png", "--data.grammar", "my.yml"],
            ["there is no my.yml", "mine.yml"],
        ),
        (
            ["sheet", "--config", SMOKE, "--out", "a.png", "--data.grammar", "mine.yml"],
            ["mine.yml: ", "'dsk'", "disk?"],
        ),
        (["sheet", "--config", SMOKE, "--out", "a.png", "--data.nuisances.preset", "hrd"], ["'hrd'", "hard"]),
        (["dta"], ["got 'dta'", "Did you mean data?"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("dear")
    (tmp_path / "mine.yml").write_text("tokens: {a: [{shape: dsk, place: [0, 0]}], b: []}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert sorted(tmp_path.rglob("*")) == before
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


def test_photographs_are_not_written_out_again(tmp_path, monkeypatch, capfd):
    for split in ("train", "val", "test", "bank"):
        for token in ("one", "two"):
            (tmp_path / "root" / split / token).mkdir(parents=True)
            for number in range(2):
                picture = Image.new("RGB", (8, 8), (number * 99, len(split) * 30, len(token)))
                picture.save(tmp_path / "root" / split / token / f"{number}.png")
    (tmp_path / "folder.yaml").write_text(
        "data: {class_path: lightning_emerge.FolderDataModule, init_args: {root: root, min_exemplars: 1, image_size: 8,"
        " cache: null}}"
    )
    monkeypatch.chdir(tmp_path)
    main(["sheet", "--config", "folder.yaml", "--out", "sheet.png"])
    with pytest.raises(SystemExit):
        main(["data", "--config", "folder.yaml", "--out", "new"])
    assert "writes rendered tokens; FolderDataModule reads images that are there" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("command", "out"), [("data", "here"), ("data", "here/below"), ("sheet", "here/sheet.png")])
def test_a_place_that_cannot_be_written(command, out, tmp_path, monkeypatch, capfd):
    (tmp_path / "here").write_text("a file")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([command, "--config", SMOKE, *FEW, "--out", out])
    said = capfd.readouterr().err
    assert "--out lies where a folder can be made" in said
    assert "Name another place" in said
    assert (tmp_path / "here").read_text() == "a file"
