"""A configuration in a run's folder names what networks, data and probes are made of, and nothing else unasked."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse._common import parsing_settings

from lightning_emerge.cli import main
from lightning_emerge.cli.trust import ROOMS_DENIED

ROOT = Path(__file__).parents[2]
MODULE = """
from pathlib import Path

Path(__file__).with_name("canary").touch()

from lightning_emerge import FilterProbe


class Mine(FilterProbe):
    pass


def load(path):
    return path
"""
EVIL = [
    *("os.system", "posix.system", "subprocess.Popen", "builtins.exec", "functools.partial", "strange.load"),
    *("torch.os.system", "torch.utils.data.dataloader.os.system", "torchvision.datasets.folder.os.system"),
    *(
        "lightning_emerge.data.photographs.cache.os.system",
        "lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree",
    ),
    *(
        "torch.hub.load",
        "torch.utils.cpp_extension.load",
        "torch.utils.collect_env.run",
        "torch.load",
        "torch.jit.load",
    ),
    *("torch.serialization.load", "torch.package.PackageImporter", "torch.ops.load_library"),
    *("torch.distributed.elastic.multiprocessing.SubprocessHandler", "torch.multiprocessing.spawn"),
    *("torch.testing._internal.common_utils.run_tests", "torch._C._jit_set_profiling_mode"),
    *("torchvision.datasets.utils.extract_archive", "lightning.pytorch.cli.LightningCLI"),
    *("lightning.pytorch.LightningModule.load_from_checkpoint", "lightning_emerge.cli.main"),
    *("lightning_emerge.TokenClassifier.load_from_checkpoint", "lightning_emerge.embed_run"),
    *("lightning_emerge.report.write.write_report", "lightning_emerge.write_report"),
    *("torch.utils.data.datapipes.iter.Mapper", "torch.utils.data.datapipes.utils.decoder.basichandlers"),
    *("torchvision.datasets.LSUN", "torchvision.datasets.lsun.LSUNClass"),
]
GOOD = [
    *("torchvision.datasets.folder.default_loader", "torch.nn.functional.relu", "torch.nn.Identity", "torch.relu"),
    *("torch.nn.functional.gelu", "torchvision.transforms.v2.functional.to_image"),
]


def _config(loader: str = "torchvision.datasets.folder.default_loader", callback: str = "lightning_emerge.FilterProbe"):
    """A configuration like that of a run, whose data have a loader of their own."""
    config = yaml.safe_load((ROOT / "configs" / "smoke.yaml").read_text())
    dataset = {"class_path": "torchvision.datasets.DatasetFolder", "init_args": {"root": "here", "loader": loader}}
    dataset["init_args"]["extensions"] = [".png"]
    init_args = {"dataset": dataset, "min_exemplars": 9, "bank_exemplars": 2, "image_size": 32}
    config["data"] = {"class_path": "lightning_emerge.VisionDataModule", "init_args": init_args}
    config["trainer"]["callbacks"] = [{"class_path": callback}]
    return config


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder, beside a data set of empty files and a module that leaves a mark where it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strange.py").write_text(MODULE)
    for number in range(40):
        (tmp_path / "here" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / "ab"[number % 2] / f"{number}.png").touch()
    folder = tmp_path / "run"
    (folder / "records.zarr").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    before = dict(parsing_settings)
    yield folder
    assert parsing_settings == before  # what is parsed later is not held to it


def _replay(capfd, *arguments: str) -> str:
    """What is said of a command that ends before it reads a checkpoint, in one line."""
    with pytest.raises(SystemExit) as ended:
        main(["replay", *arguments, "--checkpoints", "nowhere"])
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    return line


def _write(place: Path, config) -> str:
    place.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return str(place)


PASSED = "--checkpoints is a folder of checkpoints"


@pytest.mark.parametrize("name", EVIL)
def test_what_a_runs_configuration_may_not_name_is_refused_before_it_is_imported(name, run, capfd):
    said = _replay(capfd, "--config", _write(run / "config.yaml", _config(name)))
    assert "A configuration is a program" in said
    assert "--only lightning_emerge,lightning,torch,torchvision," in said
    assert not list(Path().rglob("canary"))


@pytest.mark.parametrize("name", GOOD)
def test_what_networks_and_data_are_made_of_may_be_named(name, run, capfd):
    assert PASSED in _replay(capfd, "--config", _write(run / "config.yaml", _config(name)))


@pytest.mark.parametrize("callback", ["strange.Mine", "strange.load", "os.system"])
def test_a_class_is_held_to_it_like_a_function(callback, run, capfd):
    said = _replay(capfd, f"--config={_write(run / 'config.yaml', _config(callback=callback))}")
    assert f"got {callback}" in said
    assert said.endswith(f"torchvision,{callback.split('.')[0]}")
    assert not list(Path().rglob("canary"))


def test_only_allows_a_users_own_module(run, capfd):
    config = _write(run / "config.yaml", _config(callback="strange.Mine"))
    assert PASSED in _replay(
        capfd, "--config", config, "--only", "lightning_emerge,lightning,torch,torchvision,strange"
    )
    assert Path("canary").exists()


def test_only_allows_a_part_of_torch_that_is_named_in_full(run, capfd):
    config = _write(run / "config.yaml", _config("torch.utils.collect_env.run"))
    only = "lightning_emerge,lightning,torch,torchvision"
    assert "got torch.utils.collect_env.run" in _replay(capfd, "--config", config, "--only", only)
    assert PASSED in _replay(capfd, "--config", config, f"--only={only},torch.utils.collect_env")


def test_only_in_a_configuration_counts_for_nothing(run, capfd):
    config = {**_config("os.system"), "only": "lightning_emerge,lightning,torch,torchvision,os,posix"}
    assert "got os.system" in _replay(capfd, "--config", _write(run / "config.yaml", config))


def test_what_the_user_writes_beside_it_may_be_named(run, capfd):
    theirs = _write(run / "config.yaml", _config())
    mine = _write(Path("mine.yaml"), {"trainer": {"callbacks": [{"class_path": "strange.Mine"}]}})
    assert PASSED in _replay(capfd, "--config", theirs, "--config", mine)
    assert PASSED in _replay(capfd, "--config", theirs, "--trainer.callbacks+=strange.Mine")
    assert "got os.system" in _replay(capfd, "--config", _write(run / "b.yaml", _config("os.system")), "--config", mine)


def test_a_configuration_elsewhere_is_the_users_own_unless_it_is_said(run, capfd):
    mine = _write(Path("mine.yaml"), _config("strange.load", "strange.Mine"))
    assert PASSED in _replay(capfd, "--config", mine)
    assert "got strange." in _replay(capfd, "--config", mine, "--only", "lightning_emerge,lightning,torch,torchvision")


@pytest.mark.parametrize("folder", ["checkpoints", "records.zarr"])
def test_a_link_to_a_runs_configuration_is_one(folder, run, capfd):
    (run / "records.zarr").rename(run / folder)
    _write(run / "config.yaml", _config("os.system"))
    Path("link.yaml").symlink_to(run / "config.yaml")
    assert "got os.system" in _replay(capfd, "-c", "link.yaml")
    assert "got os.system" in _replay(capfd, f"-c{run / 'config.yaml'}")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))


@pytest.mark.parametrize("place", ["~", "file", "below", "realpath", "stdin", "named otherwise"])
def test_a_runs_configuration_is_found_however_it_is_named(place, run, capfd, monkeypatch):
    config = yaml.safe_dump(_config("os.system"))
    _write(run / "config.yaml", config)
    (run / "sub").mkdir()
    _write(run / "sub/c.yaml", config)
    (Path() / "strange/ckpt").mkdir(parents=True)
    _write(Path() / "strange/c.yaml", config)
    Path("link.yaml").symlink_to(run / "config.yaml")
    monkeypatch.setenv("HOME", str(run.resolve().parent))
    monkeypatch.setattr("sys.stdin", io.StringIO(config))
    given = {
        "~": ["--config", f"~/{run.name}/config.yaml"],
        "file": [f"--config=file://{run.resolve()}/config.yaml"],
        "below": ["--config", str(run / "sub/c.yaml")],
        "realpath": ["--config", "link.yaml"],
        "stdin": ["--config", "-"],
        "named otherwise": ["--config", "strange/c.yaml"],
    }[place]
    with pytest.raises(SystemExit) as ended:
        main(["replay", *given, "--checkpoints", "strange/ckpt"])
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert "A configuration is a program" in said or (place == "file" and "there is no" in said), said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: pipe", "names pipe, which is no plain file"),
        ("config: pipe", "names a further configuration"),
        ("model: other.yaml", "names a further file (other.yaml)"),
        ('data: "{a: &a [x, x], b: [*a, *a]}"', "has YAML within text"),
        (f'data: "{"[" * 100_000}"', "has YAML within text"),
    ],
)
def test_a_runs_configuration_has_nothing_that_is_read_on_from(text, words, run, capfd):
    os.mkfifo("pipe")
    _write(Path("other.yaml"), "a: 1")
    assert words in _replay(capfd, "--config", _write(run / "config.yaml", text))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (BOMB, "aliases"),
        ("[" * 100_000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [touch canary]", "could not determine a constructor"),
        ("a pipe", "no plain file"),
        ("a device", "no plain file"),
    ],
    ids=["bomb", "deep", "tag", "pipe", "device"],
)
def test_a_file_that_never_ends_or_runs_by_itself_is_refused(what, words, run, capfd):
    place = run / "config.yaml"
    if what == "a pipe":
        os.mkfifo(place)
    elif what == "a device":
        place.symlink_to("/dev/zero")
    else:
        place.write_text(what)
    said = _replay(capfd, "--config", str(place))
    assert "is a plain file of YAML" in said
    assert words in said
    assert not list(Path().rglob("canary"))


def test_a_file_with_aliases_that_the_user_trusts_is_read(run, capfd):
    place = _write(run / "config.yaml", _config())
    again = _write(run / "own.yaml", "trainer: {max_epochs: &epochs 1, min_epochs: *epochs}")
    given = ["--config", place, "--config", again]
    assert "it has aliases" in (said := _replay(capfd, *given))
    assert "If you trust it: --only lightning_emerge,lightning,torch,torchvision" in said
    only = ["--only", "lightning_emerge,lightning,torch,torchvision"]
    assert "--checkpoints is a folder of checkpoints" in _replay(capfd, *given, *only)


@pytest.mark.parametrize("elsewhere", ["fit", "replay"])
def test_tags_of_yaml_run_nothing(elsewhere, run, capfd):
    mine = _write(Path("mine.yaml"), "trainer: !!python/object/apply:os.system [touch canary]")
    with pytest.raises(SystemExit) as ended:
        main([elsewhere, "--config", mine, *(["--checkpoints", "nowhere"] if elsewhere == "replay" else [])])
    assert ended.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not list(Path().rglob("canary"))


def test_each_room_is_denied_or_is_what_networks_data_and_probes_are_made_of():
    package = ROOT / "lightning_emerge"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    numbers = {"records", "schedules", "capture", "measures", "figures"}
    assert rooms - {*ROOMS_DENIED, "__init__"} == {"data", "models", "probe", "probes", "callbacks", *numbers}


@pytest.mark.parametrize("only", ["", "os system", "a..b", "*"])
def test_only_is_a_list_of_modules(only, run, capfd):
    assert "--only is a list of modules" in _replay(
        capfd, "--config", _write(run / "c.yaml", _config()), "--only", only
    )


def test_help_says_that_a_configuration_is_a_program(capfd):
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    said = " ".join(capfd.readouterr().out.split())
    assert "A configuration is a program" in said
    assert "--only" in said
