"""`lightning embed` as a user gives it; tests/contracts/test_replay.py has it make points."""

from __future__ import annotations

import pytest

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
