"""`lightning report` as a user gives it."""

from __future__ import annotations

import pytest

from lightning_emerge.cli import main
from lightning_emerge.report import make as module


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Leaves the first and the last section, as drawing the others takes time."""
    monkeypatch.setattr(module, "SECTIONS", (module.SECTIONS[0], module.SECTIONS[-1]))


def test_the_page_is_in_the_runs_folder_and_said_to_be(make_run, tmp_path, capfd):
    run = make_run(tmp_path / "run")
    main(["report", str(run)])
    path = run / "report" / "report.html"
    assert capfd.readouterr().out.strip() == str(path)
    assert path.is_file()
    main(["report", f"{run}/"])  # again, in its place
    assert capfd.readouterr().out.strip() == str(path)


def test_several_runs_have_a_page_where_the_command_is_given_or_where_it_is_said(
    make_run, tmp_path, capfd, monkeypatch
):
    runs = [str(make_run(tmp_path / name)) for name in "ab"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    main(["report", *runs])
    assert capfd.readouterr().out.strip() == "report/report.html"
    assert (tmp_path / "here" / "report" / "report.html").is_file()
    main(["report", *runs, "--out", "deep/there"])
    assert (tmp_path / "here" / "deep" / "there" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "`lightning report RUN [RUN ...] [--out DIR]` writes a page"),
        (["rum"], "there is no folder rum. Did you mean run?"),
        (["run", "run"], "Name each once"),
        (["empty"], "empty is none"),
        (["run", "--out", "empty/../run"], "takes the place of an earlier report only"),
        (["run", "--ut", "x"], "unrecognized arguments"),
        (["s3://bucket/run"], "Name a folder: --out DIR"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, words, make_run, tmp_path, capfd, monkeypatch):
    make_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["report", *arguments])
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["vgg5::lr0.1", "a:b", "file:x"])
def test_a_runs_folder_is_taken_literally(name, make_run, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / name)
    main(["report", name])
    assert capfd.readouterr().out.strip() == f"{name}/report/report.html"
    assert (tmp_path / name / "report" / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_its_help_says_what_it_does(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["report", "--help"])
    assert ended.value.code == 0
    assert "side by side" in capfd.readouterr().out
