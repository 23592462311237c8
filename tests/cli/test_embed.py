"""`lightning embed` as a user gives it; tests/contracts/test_replay.py has it make points."""

from __future__ import annotations

import pytest

import lightning_emerge as le
from lightning_emerge.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "`lightning embed RUN`"),
        (["empty"], "there is none in empty"),
        (["empty", "--looks", "0"], "--looks is at least 1; got 0"),
        (["empty", "--neighbours", "1"], "--neighbours is at least 2; got 1"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, words, tmp_path, capfd, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["embed", *arguments])
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["e::lr0.1", "file:e"])
def test_a_runs_folder_is_taken_literally(name, make_run, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "note").write_text("precious")
    make_run(tmp_path / name, tokens=tuple(f"token{k}" for k in range(7)), steps=(0, 1))
    main(["embed", name, "--looks", "2", "--neighbours", "4"])
    assert capfd.readouterr().out.strip() == f"{name}/embedding.png"
    assert (tmp_path / name / "embedding.png").is_file()
    assert le.open_run(f"{name}/embedding").sizes["step"] == 2
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["note"]
    assert {path.name for path in tmp_path.iterdir()} == {"e", name}
