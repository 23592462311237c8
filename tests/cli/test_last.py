"""`--ckpt_path last`: the newest run goes on, and a new one begins where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.store.write import ArraySink

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
SMALL = [
    *("--data.image_size", "16", "--model.network.init_args.image_size", "16", "--trainer.limit_train_batches", "3"),
    *("--model.network.init_args.plan", "[1]", "--data.bank_exemplars", "3", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
]


def fit(epochs: int, *arguments: str) -> None:
    main(["fit", "--config", SMOKE, *SMALL, "--trainer.max_epochs", str(epochs), *arguments])


def last_step(run: str) -> int:
    return int(le.open_run(f"runs/smoke/{run}").step[-1])


def test_last_is_the_newest_fit(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fit(1, "--ckpt_path", "last")
    assert "There is no checkpoint yet; the run begins at step 0" in capfd.readouterr().out
    fit(1)
    main(["test", "--config", SMOKE, *SMALL, "--ckpt_path", "last"])  # has a version of its own
    assert (tmp_path / "runs/smoke/version_2").is_dir()
    fit(2, "--ckpt_path", "last")
    assert "Going on from runs/smoke/version_1/checkpoints/last.ckpt" in capfd.readouterr().out
    assert (last_step("version_0"), last_step("version_1")) == (3, 6)
    fit(3, "--ckpt_path", "last", "--trainer.logger.init_args.version", "0")
    assert (last_step("version_0"), last_step("version_1")) == (9, 6)
    assert not (tmp_path / "runs/smoke/version_3").exists()
    assert "version: null" in (tmp_path / "runs/smoke/version_1/config.yaml").read_text()
    # A run that was killed before its first checkpoint is not gone on with, and neither is the one before it.
    (tmp_path / "runs/smoke/version_3/records.zarr").mkdir(parents=True)
    fit(1, "--ckpt_path", "last")
    assert last_step("version_4") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["test", "--ckpt_path", "last"], "no run has one yet"),
        (["fit", "--ckpt_path", "last", "--trainer.logger", "false"], "the first logger is none"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([arguments[0], "--config", SMOKE, *SMALL, *arguments[1:]])
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_weights_alone_are_not_gone_on_from(fitted, capfd):
    with pytest.raises(SystemExit):
        fit(2, "--ckpt_path", "runs/smoke/version_0/checkpoints/step=000003.ckpt")
    assert "holds weights alone" in capfd.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("alive", [False, True])
def test_a_second_run_in_a_folder_is_refused_and_leaves_the_first_as_it_was(alive, fitted, tmp_path, capfd):
    first = tmp_path / "runs/smoke/version_0"
    writer = ArraySink(first / "records.zarr", 3) if alive else None
    before = contents(first)
    with pytest.raises(SystemExit) as ended:
        fit(2, "--trainer.logger.init_args.version", "0")
    assert ended.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("lightning: ")]
    assert ("another is writing" if alive else "has 4 steps of an earlier run") in line
    assert "another version" in line
    assert contents(first) == before
    if writer is not None:
        writer.close()


def test_a_run_behind_a_url_leaves_its_pictures_there(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fit(1, "--trainer.logger.init_args.save_dir", (tmp_path / "there").as_uri())
    pictures = {path.name for path in (tmp_path / "there").rglob("*.png")}
    assert pictures == {"exemplars.png", "stimuli.png", "emergence.png", "timeline.png"}
    assert not list((tmp_path / "here").iterdir())


def test_another_network_is_named_before_anything_is_written(fitted, tmp_path, capfd):
    before = contents(tmp_path)
    for arguments, words in (
        (["--model.network.init_args.width", "8"], "its network."),
        (["--model.network.init_args.batch_norm", "true"], "which the network has"),
    ):
        for name in ("fit", "test"):
            with pytest.raises(SystemExit) as ended:
                main([name, "--config", SMOKE, *SMALL, *arguments, "--ckpt_path", "last"])
            assert ended.value.code == 2
            (line,) = capfd.readouterr().err.splitlines()
            assert line.startswith("lightning: A checkpoint is of the network that the configuration makes; runs/smoke")
            assert words in line
            assert "config.yaml in that run's folder" in line
    assert contents(tmp_path) == before


def test_what_lightning_saved_for_another_job_is_refused(fitted, tmp_path, monkeypatch, capfd):
    Path("hpc_ckpt_1.ckpt").write_bytes(Path("runs/smoke/version_0/checkpoints/last.ckpt").read_bytes())
    job = {"JOB_ID": "1", "JOB_NAME": "mine", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in {**job, "NTASKS_PER_NODE": "1", "NNODES": "1", "NODELIST": "localhost"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    before = contents(tmp_path)
    for arguments in ((), ("--ckpt_path", "last", "--trainer.logger.init_args.version", "job_1")):
        with pytest.raises(SystemExit) as ended:
            fit(1, *arguments)
        assert ended.value.code == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "hpc_ckpt_1.ckpt lies in the working folder" in line
        assert "whichever job it is of" in line
    assert contents(tmp_path) == before
    fit(2, "--ckpt_path", "last")  # its own
    assert last_step("version_0") == 6


def test_ctrl_c_is_one_line_and_status_130(monkeypatch, capfd):
    def interrupted(words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_emerge.cli._run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["replay"])
    assert ended.value.code == 130
    assert capfd.readouterr().err == "\nlightning: Ctrl-C ended the command.\n"
