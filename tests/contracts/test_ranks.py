"""Promises 1, 3 and 7 in one process and in several: passive, free of the world's size, no hang."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import run_ranks, started

import lightning_emerge as le

SCRIPT = Path(__file__).with_name("ranks.py")
pytestmark = pytest.mark.timeout(600)  # the first test waits for all fits
ENVIRONMENT = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
PLANNED = [60 - 3.0 * step for step in range(20)]  # losses of training, in the mean over processes
CASES: list[dict[str, Any]] = [
    *({"name": f"world_{world}", "world": world, "steps": 9, "probes": ["all"]} for world in (1, 2, 3)),
    *(
        {"name": f"{name}_{world}", "world": world, "steps": 50, "every": 25, "random": True, "probes": probes}
        for world in (1, 2)
        for name, probes in (("none", []), ("all", ["all"]), ("draws", ["DrawsOneNumber"]))
    ),
    {"name": "raises", "world": 2, "steps": 20, "losses": PLANNED, "probes": ["Failing", "FilterProbe"]},
    {"name": "fussy", "world": 2, "steps": 20, "fussy": True, "probes": ["CategoryProbe", "FilterProbe"]},
    {"name": "strict", "world": 2, "steps": 20, "fussy": True, "probes": ["all"]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all cases left."""
    home = tmp_path_factory.mktemp("ranks")
    (home / "cases.json").write_text(json.dumps(CASES))
    with (home / "said").open("w") as said:
        for case in CASES:
            with suppress(subprocess.TimeoutExpired):  # its results are missing
                ended = run_ranks([sys.executable, SCRIPT, home, case["name"]], case["world"])
                said.writelines(f"{case['name']} ended with {one.returncode}\n{one.stdout}" for one in ended)
    return home


def found(folder: Path, case: str, rank: int) -> dict[str, Any]:
    path = folder / f"{case}_{rank}.pt"
    assert path.exists(), f"{case} hung or broke off in process {rank}:\n{(folder / 'said').read_text()[-3000:]}"
    return torch.load(path, weights_only=True)


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    names = sorted(a.keys() - {"said", "off", "error"})
    assert names == sorted(b.keys() - {"said", "off", "error"})
    return [
        name
        for name in names
        if not (torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name])
    ]


@pytest.mark.distributed
@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_all_probes_leave_everything_bit_identical(folder, world, rank):
    without, watched = found(folder, f"none_{world}", rank), found(folder, f"all_{world}", rank)
    assert watched["error"] == ""
    assert without["steps"] == 50
    assert len(without["order"]) == 50 * 12 // world
    assert len(without) > 20
    assert differences(without, watched) == []


@pytest.mark.distributed
@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_probe_that_draws_one_random_number_is_found(folder, world, rank):
    assert "torch" in differences(found(folder, f"none_{world}", rank), found(folder, f"draws_{world}", rank))


@pytest.mark.distributed
@pytest.mark.parametrize("world", [2, 3])
def test_records_do_not_depend_on_how_many_processes_there_are(folder, world):
    assert found(folder, f"world_{world}", world - 1)["error"] == ""
    alone, shared = (le.open_run(folder / f"world_{count}").load() for count in (1, world))
    assert alone.step.values.tolist() == shared.step.values.tolist() == [0, 7, 9]
    assert alone.stimulus.size == 35
    assert (
        set(alone.data_vars)
        == set(shared.data_vars)
        >= {*("rdm", "bank_gradient_norm", "token_gradient_size", "gradient_square", "pooled_mean", "kernels")}
    )
    for name in alone.data_vars:
        if name != "gradient_magnitude":  # counts: a gradient on the edge of a bin falls to either side
            np.testing.assert_allclose(shared[name], alone[name], rtol=1e-5, atol=1e-5, err_msg=str(name))
    moved = np.abs(shared.gradient_magnitude.values - alone.gradient_magnitude.values)
    assert np.nansum(moved) <= 0.01 * np.nansum(alone.gradient_magnitude.values)


@pytest.mark.distributed
@pytest.mark.parametrize(("case", "kind", "step"), [("raises", "Failing", 0), ("fussy", "CategoryProbe", 14)])
def test_a_probe_that_fails_in_one_process_is_off_in_all_and_training_ends(folder, case, kind, step):
    for rank in (0, 1):
        result = found(folder, case, rank)
        assert (result["steps"], result["error"]) == (20, "")
        assert result["off"] == {kind: step, "FilterProbe": None}
    assert any(f"{kind} failed at step {step} and is switched off" in line for line in found(folder, case, 0)["said"])
    assert np.isfinite(le.open_run(folder / case).kernels).all()


@pytest.mark.distributed
def test_looks_that_follow_the_loss_follow_its_mean_over_processes(folder):
    assert [found(folder, "raises", rank)["steps"] for rank in (0, 1)] == [20, 20]
    looks, expected = le.LossMoved(0.1, window=1), [0]
    for step, loss in enumerate(PLANNED, 1):
        expected += [step] if looks(step) else []
        looks.hear(step, loss)
    assert len(expected) > 4
    assert le.open_run(folder / "raises").step.values.tolist() == [*expected, 20]


@pytest.mark.distributed
def test_a_strict_probe_that_fails_in_one_process_stops_all(folder):
    assert [found(folder, "strict", rank)["steps"] for rank in (0, 1)] == [14, 14]
    assert "planted in forward" in found(folder, "strict", 1)["error"]
    assert "another process could not run the stimulus bank" in found(folder, "strict", 0)["error"]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_agents_of_torchrun_give_the_records_of_one_process(folder, tmp_path):
    case = {"name": "nodes", "steps": 9, "probes": ["all"]}
    (tmp_path / "cases.json").write_text(json.dumps([case]))
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    meet = ["--rdzv-backend=c10d", endpoint, "--rdzv-id=test", "--local-addr=127.0.0.1"]
    # Otherwise both would try to be the host, as each of them is on the machine of the address.
    hosts = [f"--rdzv-conf=is_host={is_host},read_timeout=170" for is_host in ("true", "false")]
    commands = [[*agent, *meet, host, str(SCRIPT), str(tmp_path), "nodes"] for host in hosts]
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with ExitStack() as both:
        agents = [both.enter_context(started(command, env=ENVIRONMENT, ready=True, **settings)) for command in commands]
        said = [agent.communicate(timeout=180)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    alone, shared = le.open_run(folder / "world_1").load(), le.open_run(tmp_path / "nodes").load()
    assert shared.step.values.tolist() == [0, 7, 9]
    np.testing.assert_allclose(shared.rdm, alone.rdm, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shared.bank_gradient_norm, alone.bank_gradient_norm, rtol=1e-5, atol=1e-5)
