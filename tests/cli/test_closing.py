"""What a fit leaves when it is over: nothing that only says or draws costs what it has done."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from children import run_group, started
from lightning.pytorch import Callback

from lightning_emerge.cli import closing, main
from lightning_emerge.cli.streams import forgiving_streams

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
SMALL = [
    *("--data.image_size", "16", "--model.network.init_args.image_size", "16", "--trainer.limit_train_batches", "3"),
    *("--model.network.init_args.plan", "[1]", "--data.bank_exemplars", "3", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.max_epochs", "1"),
]
BEGIN = ["fit", "--config", SMOKE, *SMALL]


def fails(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("summarise_run", "What the records show"),
        ("keep_picture", "emergence.png"),
        ("run_timeline", "The timeline"),
        ("draw_timeline", "timeline.png"),
        ("write_timeline", "The timeline"),
    ],
)
def test_what_cannot_be_made_is_named_and_the_rest_is_there(name, missing, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(closing, name, fails)
    main(BEGIN)
    said = capfd.readouterr().out.splitlines()
    assert any(
        line.startswith(f"Failed    {missing} could not be made") and "No space left" in line for line in said
    ), said
    assert "Look      lightning board runs/smoke/version_0" in said
    if name in ("keep_picture", "draw_timeline"):
        tokens = [
            f"          {token:5} not resolved by these looks" for token in ("dax", "wug", "blick", "fep", "toma")
        ]
        first = said.index("Tokens    at optimizer step (95% interval)") + 1
        assert said[first : first + 5] == tokens
        assert (tmp_path / "runs/smoke/version_0/emergence.json").exists()


class Renames(Callback):
    """Renames the folder of its run while the run goes on."""

    def on_fit_end(self, trainer, pl_module):
        os.rename("runs/smoke/version_0", "runs/smoke/mine")


def test_a_folder_that_is_renamed_meanwhile_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    main([*BEGIN, "--trainer.callbacks+", f"{__name__}.Renames"])
    out, err = capfd.readouterr()
    assert "Missing   runs/smoke/version_0 was renamed or removed while the run went on" in out
    assert "Traceback" not in err
    assert not (tmp_path / "runs/smoke/version_0").exists()
    assert (tmp_path / "runs/smoke/mine/checkpoints/last.ckpt").exists()


_LIGHTNING = [sys.executable, "-m", "lightning_emerge", *BEGIN, "--trainer.enable_progress_bar", "true"]


_SILENT = """
import os, sys
sys.stdout = sys.__stdout__ = None
os.close(1)
from lightning_emerge.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["leaves", "full"])
def test_nobody_has_to_listen(reader, tmp_path):
    with open("/dev/full", "w") as full:
        settings = {"cwd": tmp_path, "stdout": full if reader == "full" else PIPE, "stderr": STDOUT, "ready": True}
        with started(_LIGHTNING, **settings) as fit:
            if reader == "leaves":  # after a line, as `head -1` does
                assert fit.stdout.readline()
                fit.stdout.close()
            assert fit.wait(200) == 0
    assert (tmp_path / "runs/smoke/version_0/emergence.json").exists()


@pytest.mark.slow
def test_it_may_begin_without_an_output(tmp_path):
    asks = f"'{sys.executable}' -c 'import sys; print(sys.stdout, sys.__stdout__, file=sys.stderr)' >&-"
    assert run_group(["bash", "-c", asks]).stderr == "None None\n"
    ended = run_group([sys.executable, "-c", _SILENT, *_LIGHTNING[3:]], 200, cwd=tmp_path, ready=True)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "runs/smoke/version_0/emergence.json").exists()
    assert "Traceback" not in ended.stderr


def test_a_stream_that_cannot_be_written_is_silent(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with forgiving_streams():
            for _ in range(3):
                sys.stdout.write("nobody hears this")
                sys.stdout.flush()
        assert sys.stdout is full
