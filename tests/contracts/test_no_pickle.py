"""Promise 6: nothing that could run is read or written."""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.engine.checkpoint_files import read_checkpoint
from lightning_emerge.engine.weight_files import list_checkpoints

PACKAGE = Path(le.__file__).parent
SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "pd.read_pickle"}
SAFE_ONLY = {"torch.load": "weights_only", "trainer.fit": "weights_only", "trainer.test": "weights_only"}


def _dangers(source: str) -> Iterator[str]:
    """Lines of a module that could load or store objects."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            yield from _dangers_of_call(node)


def _dangers_of_call(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called in CALLS or called.endswith(("to_pickle", "read_pickle", "all_gather_object", "broadcast_object_list")):
        yield called
    if given.get("allow_pickle", "False") != "False":
        yield f"{called} with allow_pickle"
    loader = given.get("Loader", ast.unparse(node.args[1]) if len(node.args) > 1 else "")
    if called == "yaml.load" and "Safe" not in loader:
        yield f"yaml.load with {loader or 'no loader'}"
    for name, keyword in SAFE_ONLY.items():
        if called.endswith(name) and given.get(keyword) != "True":
            yield f"{called} without {keyword}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_loads_and_stores_no_objects(path):
    assert list(_dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import os, marshal",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "self.trainer.fit(model)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, yaml.FullLoader)",
        "exec(code)",
        "frame.to_pickle(path)",
        "dist.all_gather_object(parts, part)",
    ],
)
def test_each_danger_would_be_found(line):
    assert list(_dangers(line))


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """What a payload would leave."""
    return tmp_path / "sprung"


@pytest.fixture
def checkpoint(tmp_path: Path, trap: Path) -> Path:
    """A checkpoint that does harm to whoever reads it carelessly."""
    path = tmp_path / "evil.ckpt"
    torch.save({"global_step": 0, "state_dict": {}, "callbacks": _Payload(trap)}, path)
    torch.load(path, weights_only=False)
    assert trap.exists()
    trap.rmdir()
    return path


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_malicious_checkpoint_is_refused_by_every_command(command, checkpoint, trap, capfd):
    with pytest.raises(SystemExit) as ended:
        main([command, "--config", SMOKE, "--ckpt_path", str(checkpoint)])
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert "holds other things, and was not loaded" in said
    assert not trap.exists()


def test_a_malicious_checkpoint_is_refused_by_a_replay(checkpoint, trap):
    with pytest.raises(ValueError, match="was not loaded"):
        list_checkpoints(checkpoint.parent)
    with pytest.raises(ValueError, match="was not loaded"):
        read_checkpoint(checkpoint)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["model_1.pt", "model_1.pth", "checkpoint-1/pytorch_model.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_nobodys_weights_do_harm(name, zipped, tmp_path, trap):
    path = tmp_path / "others" / name
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.ones(2), "x": _Payload(trap)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"holds other things, and was not loaded .* asks for \w+\.mkdir"):
        list_checkpoints(tmp_path / "others")
    assert not trap.exists()


def test_there_is_no_option_to_load_carelessly(capfd):
    with pytest.raises(SystemExit):
        main(["fit", "--config", SMOKE, "--weights_only", "false"])
    assert "there is no option --weights_only" in capfd.readouterr().err


def test_checkpoints_load_as_tensors_and_plain_values(make_data, make_model, make_trainer, all_probes, tmp_path):
    callbacks = [*all_probes(le.At([1])), le.Checkpoints(le.At([1]))]
    make_trainer(callbacks, enable_checkpointing=True, max_steps=2).fit(make_model(), datamodule=make_data())
    paths = list((tmp_path / "run/checkpoints").glob("*.ckpt"))
    assert len(paths) == 4
    for path in paths:
        assert torch.load(path, weights_only=True)["state_dict"]


def _v2_array(store: Path, trap: Path) -> None:
    """An array of the old format whose chunk is a pickle."""
    (store / "rdm").mkdir(parents=True)
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    metadata = {"chunks": [1], "compressor": None, "dtype": "|O", "fill_value": 0, "order": "C", "shape": [1]}
    (store / "rdm/.zarray").write_text(json.dumps({**metadata, "filters": [{"id": "pickle"}], "zarr_format": 2}))
    (store / "rdm/.zattrs").write_text('{"_ARRAY_DIMENSIONS": ["step"]}')
    (store / "rdm/0").write_bytes(pickle.dumps(_Payload(trap)))


def _v3_array(store: Path, trap: Path) -> None:
    """A store of ours in which an array names a codec that unpickles."""
    with_records(store)
    for path in (store / "zarr.json", store / "thing/zarr.json"):
        metadata = json.loads(path.read_text())
        array = metadata.get("consolidated_metadata", {}).get("metadata", {}).get("thing", metadata)
        array["codecs"] = [{"name": "numcodecs.pickle", "configuration": {}}]
        path.write_text(json.dumps(metadata))
    (store / "thing/c.0").write_bytes(pickle.dumps(_Payload(trap)))


def with_records(store: Path) -> None:
    import numpy as np

    from lightning_emerge.store.write import ArraySink

    sink = ArraySink(store, None)
    sink.write(0, [le.Measurement("thing", np.zeros(()), (), 0)])
    sink.close()


@pytest.mark.parametrize("make", [_v2_array, _v3_array])
def test_a_malicious_store_is_refused(make, tmp_path, trap):
    store = tmp_path / "records.zarr"
    make(store, trap)
    with pytest.raises((ValueError, FileNotFoundError), match=r"records\.zarr"):
        le.open_run(tmp_path).load()
    assert not trap.exists()


def test_a_configuration_cannot_make_python_objects(tmp_path, trap, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    text = Path(SMOKE).read_text().replace("max_epochs: 1", f"max_epochs: !!python/object/apply:os.mkdir [{trap}]")
    (tmp_path / "evil.yaml").write_text(text)
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(text)
    with pytest.raises(SystemExit):
        main(["fit", "--config", "evil.yaml"])
    assert not trap.exists()
