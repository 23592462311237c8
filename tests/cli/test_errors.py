"""A user's mistakes: one line that says the rule, what came and the nearest valid name; status 2; nothing on disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from children import run_group

from lightning_emerge.cli import main
from lightning_emerge.cli.errors import explain

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")


def _fails(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert sorted(folder.rglob("*")) == before
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainr.max_epochs", "3"], ["--trainr.max_epochs", "--trainer.max_epochs?"]),
        (["--trainer.max_epoch", "3"], ["--trainer.max_epoch.", "--trainer.max_epochs?"]),
        (["--trainer.max_epochs", "three"], ["trainer.max_epochs is int or null", "'three'"]),
        (["--data.exemplar", "600"], ["TokenDataModule", "'exemplar'", "Did you mean exemplars?"]),
        (["--data.exemplars", "499"], ["at least data.min_exemplars (500)", "499"]),
        (["--data.batch_size", "0"], ["batch_size is at least 1", "got 0"]),
        (["--data.nuisances.rotation", "90"], ["nuisances.rotation lies in 0 to 45", "90"]),
        (["--data.nuisances.rotaton", "9"], ["rotaton", "Did you mean rotation?"]),
        (["--model.network.init_args.widht", "3"], ["'widht'", "Did you mean width?"]),
        (["--model.network.init_args.width", "0"], ["width is at least 1", "got 0"]),
        (["--model.network.init_args.plan", "vgg61"], ["'vgg61'", "'vgg16'"]),
        (["--model.network", "lightning_emerge.VGGG"], ["lightning_emerge.VGGG", "Did you mean VGG?"]),
        (["--model.optimizer", "torch.optim.Adm"], ["torch.optim.Adm", "Did you mean Adam?"]),
        (["--model.optimizer.init_args.lr", "-1"], ["learning rate", "-1"]),
        (["--data.image_size", "48"], ["image_size", "32", "48"]),
        (["--model.network.init_args.tokens", "4"], ["4", "5 tokens", "tokens=5"]),
        (["--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt"]),
        (["--trainer.accelerator", "gpuu"], ["gpuu"]),
        (["--trainer.strategy", "fsdp"], ["whole weights", "fsdp splits them", "--trainer.strategy ddp"]),
        (["--trainer.strategy", "deepspeed_stage_2"], ["whole weights", "deepspeed_stage_2", "--trainer.strategy ddp"]),
        (
            ["--trainer.strategy.class_path", "lightning.pytorch.strategies.ModelParallelStrategy"],
            ["whole weights", "ModelParallelStrategy", "--trainer.strategy ddp"],
        ),
        (["--config", "smok.yaml"], ["--config names a file", "smok.yaml"]),
    ],
)
def test_an_option(arguments, words, tmp_path, monkeypatch, capfd):
    said = _fails(["fit", "--config", SMOKE, *arguments], tmp_path, monkeypatch, capfd)
    assert [word for word in words if word not in said] == [], said


def test_a_look_that_does_not_fit_into_memory(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("lightning_emerge.cli.checks.memory_of", lambda device: 1e6)
    said = _fails(["fit", "--config", SMOKE], tmp_path, monkeypatch, capfd)
    assert [word for word in ("A look fits into memory", "1 MB", "data.bank_exemplars") if word not in said] == [], said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("SimilarityProbe", "SimilarityProb", ["SimilarityProb.", "Did you mean SimilarityProbe?"]),
        ("per_decade", "per_decad", ["'per_decad'", "Did you mean per_decade?"]),
        ("per_decade: 4", "per_decade: 0", ["per_decade lies in 1 to 1000", "got 0"]),
        ("\ndata:", "\ndta:", ["dta", "Did you mean data"]),
        ("max_epochs", "max_epoch", ["max_epoch.", "max_epochs"]),
        ("lightning_emerge.VGG", "lightning_emerg.VGG", ["lightning_emerg", "Did you mean lightning_emerge?"]),
        ("{schedule: *looks}", '{schedule: *looks, layers: ["cov1_1"]}', ["'cov1_1'", "Did you mean 'conv1_1'?"]),
        ("{schedule: *looks}", "{schedule: *looks, on_error: ignore}", ["'ignore'", "'report'"]),
        ("model:", "model: [", ["config"]),
    ],
)
def test_a_line_of_a_configuration(old, new, words, tmp_path, monkeypatch, capfd):
    text = Path(SMOKE).read_text()
    assert old in text
    (tmp_path / "own.yaml").write_text(text.replace(old, new))
    said = _fails(["fit", "--config", "own.yaml"], tmp_path, monkeypatch, capfd)
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fitt"], ["'fitt'", "Did you mean fit?"]),
        (["fit"], ["missing: data, model", "--config"]),
        (["board", "nowhere"], ["no folder nowhere", "lightning fit"]),
        (["board", "memory://nowhere"], ["no folder memory://nowhere"]),
        (["board", "nothing://nowhere"], ["nothing://nowhere cannot be read"]),
        (["board", "--prt", "1"], ["--prt"]),
        (["board", ".", "--port", "99999"], ["0 to 65535", "99999"]),
    ],
)
def test_a_command(arguments, words, tmp_path, monkeypatch, capfd):
    said = _fails(arguments, tmp_path, monkeypatch, capfd)
    assert [word for word in words if word not in said] == [], said


def test_a_defect_of_the_users_own_class_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(
        "import lightning_emerge as le\n\n\nclass Own(le.TokenDataModule):\n"
        "    def __init__(self):\n        super().__init__()\n        self.nothing.at_all\n"
    )
    command = [sys.executable, "-m", "lightning_emerge", "fit", "--config", SMOKE, "--data", "own_module.Own"]
    ended = run_group(command, 120, cwd=tmp_path, ready=True)
    assert ended.returncode == 1
    assert "AttributeError" in ended.stderr
    assert "own_module.py" in ended.stderr


@pytest.mark.parametrize(
    "message",
    [
        "module 'strange' has no attribute 'thing'",
        "module 'strange.evil' has no attribute 'thing'",
        "class_path 'strange.Thing' Option 'x' is not accepted",
    ],
)
def test_what_a_message_quotes_is_never_imported(message, tmp_path, monkeypatch):
    (tmp_path / "strange").mkdir()
    for name in ("__init__.py", "evil.py"):
        (tmp_path / "strange" / name).write_text("from pathlib import Path\nPath(__file__ + '.ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    assert "strange" in explain(message, [])
    assert not list(tmp_path.rglob("*.ran"))
