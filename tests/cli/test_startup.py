"""What a command does not need it does not import: importing Lightning alone takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from children import LIBRARIES, run_group

from lightning_emerge.cli import main
from lightning_emerge.cli.training import EmergeCLI

_IMPORTED = "import sys; print('imported', *sys.modules)"


def _imports(*lines: str, ready: tuple[str, ...] = ()) -> set[str]:
    command = [sys.executable, "-c", "\n".join([*lines, _IMPORTED])]
    done = run_group(command, ready=ready)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("imported", 1)[1].split())


def test_the_package_imports_what_is_asked_for():
    assert not _imports("import lightning_emerge") & {"torch", "lightning", "numpy", "lightning_emerge.records"}


@pytest.mark.parametrize("words", [["--help"], ["board", "--help"]], ids=" ".join)
def test_help_does_not_import_torch(words):
    run = f"try: main({words})\nexcept SystemExit: pass"
    assert not _imports("from lightning_emerge.cli import main", run) & {"torch", "lightning", "numpy"}


@pytest.mark.slow
def test_a_fit_begins_without_what_it_needs_when_it_is_over():
    late = {"xarray", "umap", "networkx", "captum", "jinja2", "lightning_emerge.analysis", "lightning_emerge.board"}
    assert not _imports(ready=LIBRARIES) & {*late, "zarr"}
    lines = ("import lightning_emerge.cli.training", "import lightning_emerge as le", "le.EmbeddingProbe")
    found = _imports(*lines, ready=LIBRARIES)
    assert "zarr" in found
    if "transformers" in found:  # which torchmetrics imports where it is installed
        late -= {"jinja2"}
    assert not found & late


def test_help_names_every_command(capsys):
    main(["--help"])
    said = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["nonsense"])
    named = capsys.readouterr().err.split("commands are ")[1].split(";")[0].split(", ")
    assert len(named) == 12
    for name in named:
        assert f"\n  {name} " in said


def test_the_command_that_is_asked_for_has_a_parser_alone(monkeypatch):
    made: list[str] = []
    prepare = EmergeCLI._prepare_subcommand_parser
    monkeypatch.setattr(
        EmergeCLI,
        "_prepare_subcommand_parser",
        lambda self, kind, name, **k: made.append(name) or prepare(self, kind, name, **k),
    )
    for words in (["fit", "--help"], ["--version"]):
        with pytest.raises(SystemExit):
            main(words)
    assert made == ["fit", "fit", "validate", "test", "predict"]


def test_one_callback_is_named_by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    smoke = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
    few = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar", "false"]
    main(["fit", "--config", smoke, "--trainer.callbacks", "lightning_emerge.CategoryProbe", *few])
    assert (tmp_path / "runs/smoke/version_0/records.zarr/bank_accuracy").is_dir()
