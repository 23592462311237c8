"""The package's configurations: found by name from any folder, copied by `lightning init`, never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_emerge.cli import main
from lightning_emerge.cli.configurations import find_by_name
from lightning_emerge.cli.shipped import HOME, names

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, in which commands are given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _printed(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    with pytest.raises(SystemExit) as ended:
        main(["fit", *words, "--print_config"])
    assert ended.value.code == 0
    return yaml.safe_load(capfd.readouterr().out)


def _fails(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    return capfd.readouterr().err


def test_names_are_those_of_the_files_of_the_repository():
    files = (ROOT / "configs").rglob("*.yaml")
    assert set(names()) == {str(path.relative_to(ROOT / "configs").with_suffix("")) for path in files}
    assert {"vgg5", "probes/dense", "grammars/eight"} <= {*names()}


def test_a_configuration_is_found_by_its_name(capfd):
    by_name = _printed(capfd, "--config", "smoke", "--config=controls/untrained")
    paths = [str(ROOT / "configs" / name) for name in ("smoke.yaml", "controls/untrained.yaml")]
    assert by_name == _printed(capfd, "--config", paths[0], "--config", paths[1])
    assert by_name["trainer"]["logger"]["init_args"]["name"] == "untrained"


def test_every_way_to_write_an_option_is_understood():
    vgg5, eight = str(HOME / "vgg5.yaml"), str(HOME / "grammars/eight.yaml")
    given = ["fit", "--config", "vgg5", "--config=vgg5", "-c", "vgg5", "-cvgg5", "--data.grammar", "grammars/eight"]
    found = ["fit", "--config", vgg5, f"--config={vgg5}", "-c", vgg5, f"-c{vgg5}", "--data.grammar", eight]
    assert find_by_name(given) == found
    other = ["vgg5", "--model.name", "vgg5", "--config", "vgg", "--config", "configs/vgg5.yaml", "--name=vgg5"]
    assert find_by_name(other) == other


def test_what_lies_where_the_command_is_given_comes_first(folder):
    (folder / "smoke").mkdir()  # a folder is no configuration
    assert find_by_name(["--config", "smoke"]) == ["--config", str(HOME / "smoke.yaml")]
    (folder / "smoke.yaml").write_text("seed_everything: 7")
    assert find_by_name(["--config", "smoke"]) == ["--config", "smoke.yaml"]
    (folder / "smoke").rmdir()
    (folder / "smoke").write_text("seed_everything: 8")
    assert find_by_name(["--config", "smoke"]) == ["--config", "smoke"]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("vg5", "vgg5"), ("probs/dense", "probes/dense"), ("dens", "probes/dense"), ("vgg5.yml", "vgg5")],
)
def test_a_misspelt_name_is_answered_with_the_nearest(wrong, near, capfd):
    said = _fails(capfd, "fit", "--config", wrong)
    assert f"there is no {wrong}. Did you mean {near}?" in said
    assert said.count("\n") == 1


def test_no_command_advises_a_file_that_is_not_there(capfd):
    said = [_fails(capfd, "fit"), _fails(capfd, "board"), _fails(capfd, "fit", "--config", "nonsense")]
    main(["--help"])
    said.append(capfd.readouterr().out)
    assert not [one for one in said if "configs/" in one or "vgg5.yaml" in one]
    assert [one for one in said if "--config vgg5" in one] == [said[0], said[1], said[3]]


def test_init_copies_all_and_what_is_copied_is_found(folder, capfd):
    main(["init", "mine"])
    assert "lightning fit --config mine/vgg5.yaml" in capfd.readouterr().out
    for name in names():
        assert (folder / "mine" / f"{name}.yaml").read_bytes() == (ROOT / "configs" / f"{name}.yaml").read_bytes()
    assert len([path for path in (folder / "mine").rglob("*") if path.is_file()]) == len(names())
    assert not (folder / "mine/vgg5.yaml").is_symlink()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_init_overwrites_nothing(kind, folder, capfd):
    path = folder / "mine/probes/dense.yaml"
    path.parent.mkdir(parents=True)
    make = {"file": lambda: path.write_text("dear"), "link": lambda: path.symlink_to("nowhere"), "folder": path.mkdir}
    make[kind]()
    before = sorted(folder.rglob("*"))
    said = _fails(capfd, "init", "mine")
    assert "overwrites nothing; mine/probes/dense.yaml is there already. Name another folder." in said
    assert sorted(folder.rglob("*")) == before


def test_init_needs_a_folder_that_can_be_made(folder, capfd):
    assert "`lightning init FOLDER` copies" in _fails(capfd, "init")
    (folder / "mine").write_text("dear")
    assert _fails(capfd, "init", "mine").count("\n") == 1
    assert (folder / "mine").read_text() == "dear"
