"""Promise 4: a probe that looks at a run's checkpoints gives the arrays that it gave live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.probe import Probe

PROBES = [
    "CategoryProbe",
    "GradientProbe",
    "FilterProbe",
    "TopExemplarProbe",
    "SimilarityProbe",
    "EmbeddingProbe",
    "CouplingProbe",
    "TokenGradientProbe",
    "GradientNoiseProbe",
    "CurvatureProbe",
    "MaximisationProbe",
    "PartProbe",
    "AblationProbe",
    "RegimeProbe",
]
CHEAP = {
    "CurvatureProbe": {"eigenvalues": 2, "iterations": 3, "vectors": 2},
    "MaximisationProbe": {"filters": 2, "iterations": 2},
    "PartProbe": {"attributed": 1},
}
EVERY_STEP = {"class_path": "lightning_emerge.EverySteps", "init_args": {"n": 1}}


def _configuration(probes: list[str], each: int = 7, **trainer: object) -> dict[str, object]:
    network = {"plan": [1, 1], "width": 4, "head": [8], "image_size": 16, "batch_norm": True, "dropout": 0.5}
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_emerge.TokenClassifier",
            "init_args": {"network": {"class_path": "lightning_emerge.VGG", "init_args": network}},
        },
        "data": {
            "class_path": "lightning_emerge.TokenDataModule",
            "init_args": {"val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": each, "image_size": 16},
        },
        "trainer": {
            "max_steps": 3,
            "accelerator": "cpu",
            "devices": 1,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": "runs", "name": "live"},
            },
            "callbacks": [
                *(
                    {
                        "class_path": f"lightning_emerge.{name}",
                        "init_args": {"schedule": EVERY_STEP, "on_error": "raise", **CHEAP.get(name, {})},
                    }
                    for name in probes
                ),
                {"class_path": "lightning_emerge.Checkpoints", "init_args": {"schedule": EVERY_STEP}},
            ],
            **trainer,
        },
    }


@pytest.fixture
def live(tmp_path, monkeypatch):
    """Fits in a folder of its own, and gives the run's folder."""
    monkeypatch.chdir(tmp_path)

    def run(probes: Sequence[str] = PROBES, **changes: object) -> Path:
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(_configuration([*probes], **changes)))
        main(["fit", "--config", "fit.yaml"])
        return Path("runs/live/version_0")

    return run


def test_every_shipped_probe_is_tried():
    shipped = [name for name in le.__all__ if isinstance(kind := getattr(le, name), type) and issubclass(kind, Probe)]
    assert sorted(PROBES) == sorted(set(shipped) - {"Probe"})


@pytest.mark.parametrize("trainer", [{}, {"precision": "bf16-mixed"}, {"precision": "bf16-true"}])
def test_replayed_arrays_equal_those_recorded_live(trainer, live, capfd):
    run = live(**trainer)
    main(["replay", "--config", str(run / "config.yaml"), "--checkpoints", str(run / "checkpoints")])
    said = capfd.readouterr().out
    assert "Left out  GradientProbe, which needs the training batch" in said
    assert "4 checkpoints, steps 0 to 3" in said
    recorded, replayed = le.open_run(run).load(), le.open_run(run / "replay_0").load()
    assert replayed.step.values.tolist() == recorded.step.values.tolist() == list(range(4))
    of_training = {
        *("gradient_norm", "update_ratio", "gradient_magnitude", "start_distance", "gradient_cosine", "dead_share"),
        "filter_gradient_norm",
    }
    assert set(replayed.data_vars) == set(recorded.data_vars) - of_training
    for name in replayed.data_vars:
        assert replayed[name].equals(recorded[name]), name
    assert not replayed.rdm.isel(step=0).equals(replayed.rdm.isel(step=3))


def test_a_fit_leaves_its_points_in_the_projector_and_embed_makes_more_of_its_records(live, capfd):
    run = live(["EmbeddingProbe"], each=20)
    out = capfd.readouterr().out
    assert "Failed" not in out
    assert f"lightning embed {run}" in out
    main(["embed", str(run)])
    assert f"{run}/embedding.png" in capfd.readouterr().out
    assert (run / "embedding.png").stat().st_size > 10_000
    embedding = le.open_run(run / "embedding").load()
    assert embedding.umap.shape == (4, 4, 100, 2)
    assert np.isfinite(embedding.umap.isel(step=-1).sel(layer="fc1")).all()
    assert 'tensor_name: "fc1:' in (run / "projector_config.pbtxt").read_text()


def test_others_files_of_the_same_weights_replay_to_the_same_arrays(live, tmp_path, capfd):
    run = live(["CategoryProbe", "SimilarityProbe"])
    for path in (run / "checkpoints").glob("step=*.ckpt"):
        weights = torch.load(path, weights_only=True)["state_dict"]
        bare = {f"module.{name.removeprefix('network.')}": value.contiguous() for name, value in weights.items()}
        step = int(path.stem.partition("=")[2])
        (tmp_path / f"checkpoint-{step}").mkdir()
        save_file(bare, tmp_path / f"checkpoint-{step}" / "model.safetensors")
        torch.save({"model": {**bare, "loss.scale": torch.ones(1)}}, tmp_path / f"weights_{step}.pt")
    config = ["--config", str(run / "config.yaml")]
    (tmp_path / "parts").mkdir()
    for path in tmp_path.glob("weights_*"):
        path.rename(tmp_path / "parts" / path.name)
    main(["replay", *config, "--checkpoints", str(tmp_path), "--out", "of_folders"])
    main(["replay", *config, "--checkpoints", "parts", "--out", "of_files", "--prefix", "module."])
    assert capfd.readouterr().out.count("4 checkpoints, steps 0 to 3") == 2
    recorded = le.open_run(run).load()
    for out in ("of_folders", "of_files"):
        replayed = le.open_run(out).load()
        assert {*replayed.data_vars} == {*recorded.data_vars}
        for name in replayed.data_vars:
            assert replayed[name].equals(recorded[name]), (out, name)


def test_a_probe_written_later_looks_at_a_run_that_is_over(live, tmp_path, monkeypatch, capfd):
    run = live(["CategoryProbe", "FilterProbe"])
    (tmp_path / "later_probes.py").write_text(
        "import lightning_emerge as le\n"
        "class Later(le.Probe):\n"
        "    needs = (le.Pooled(),)\n"
        "    records = (le.Record('later'),)\n"
        "    def measure(self, capture):\n"
        "        yield self.records[0].of(capture.pooled['fc1'].mean())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "later.yaml").write_text("trainer: {callbacks+: [{class_path: later_probes.Later}]}")
    checkpoints = ["--checkpoints", str(run / "checkpoints")]
    main(["replay", "--config", str(run / "config.yaml"), "--config", "later.yaml", *checkpoints, "--out", "over"])
    records = le.open_run("over")
    assert records.later.shape == (4,)
    assert np.isfinite(records.later.values).all()
    with pytest.raises(SystemExit):
        main(["replay", "--config", str(run / "config.yaml"), *checkpoints, "--out", "over"])
    assert "--out is a folder without records; over has some" in capfd.readouterr().err
    assert "later" in le.open_run("over")


def test_steps_are_those_of_the_files_and_schedules_do_not_matter(tmp_path, make_data):
    from lightning_emerge.engine.replay import replay
    from lightning_emerge.engine.reporting import Sinks
    from lightning_emerge.engine.weight_files import list_checkpoints
    from lightning_emerge.store.write import ArraySink

    data = make_data()
    data.setup("fit")
    model = le.VGG(plan=[1], width=2, head=[], image_size=16)
    for step in (10, 2):
        torch.nn.init.constant_(model.conv1_1.conv.weight, float(step))
        torch.save({"global_step": step, "state_dict": model.state_dict()}, tmp_path / f"{step}.ckpt")
    sink = ArraySink(tmp_path / "records.zarr", None)
    probes = [le.FilterProbe(le.At([999]), on_error="raise")]
    replay(model, probes, data.stimulus_bank(), list_checkpoints(tmp_path), Sinks([sink]), lambda: None)
    records = le.open_run(tmp_path)
    assert records.step.values.tolist() == [2, 10]
    assert records.kernels.values.mean(axis=(1, 2, 3, 4, 5)).tolist() == [2, 10]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checkpoints", "nowhere"], ["--checkpoints is a folder of checkpoints", "nowhere is none"]),
        ([], ["--checkpoints names a folder"]),
        (["--checkpoints", "empty"], ["a folder of .ckpt files", "empty has none"]),
        (["--checkpoints", "torn"], ["is damaged or holds other things"]),
        (["--checkpoints", "other"], ["a state dict, or has one under state_dict", "a.ckpt has neither"]),
        (["--checkpoints", "wider"], ["of the network that the configuration makes", "has shape"]),
        (["--checkpoints", "good", "--trainer.callbacks", "null"], ["there is none"]),
        (["--checkpoints", "good", "--trainer.callbacks", "lightning_emerge.GradientProbe"], ["only GradientProbe"]),
        (["--checkpoints", "good", "--model.network.init_args.widht", "3"], ["'widht'", "Did you mean width?"]),
        (["--checkpoint", "good"], ["--checkpoint.", "Did you mean --checkpoints?"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(_configuration(["FilterProbe"])))
    good = le.TokenClassifier(
        le.VGG(plan=[1, 1], width=4, head=[8], image_size=16, batch_norm=True, dropout=0.5)
    ).state_dict()
    wider = {name: torch.zeros(9, *value.shape) for name, value in good.items()}
    saved = {
        "good": {"global_step": 1, "state_dict": good},
        "wider": {"global_step": 1, "state_dict": wider},
        "other": {},
    }
    for name in ("empty", "torn", *saved):
        (tmp_path / name).mkdir()
    (tmp_path / "torn/a.ckpt").write_bytes(b"PK\x03\x04torn")
    for name, content in saved.items():
        torch.save(content, tmp_path / name / "a.ckpt")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["replay", "--config", "fit.yaml", *arguments])
    said = capfd.readouterr().err.strip()
    assert ended.value.code == 2
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert [word for word in words if word not in line] == [], said
    assert sorted(tmp_path.rglob("*")) == before
