"""The shares of all processes put together."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from children import run_ranks
from small import both, make_bank, make_mlp

from lightning_emerge.capture import (
    agree,
    gather,
)


def test_one_process_gathers_its_own_rows_and_agrees_with_itself():
    rows = torch.randn(7, 2, 3)
    assert torch.equal(gather(rows, 7), rows)
    assert agree([True, False], torch.device("cpu")) == [True, False]


_PROCESSES = """
# One of the processes of a case.
import os, sys
import torch, torch.distributed as dist
import lightning_emerge as le
from lightning_emerge.capture import agree, run_bank

torch.set_num_threads(1)
folder = sys.argv[1]
given = torch.load(f"{folder}/given.pt")

def work(rank, world, size):
    dist.init_process_group("gloo")
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    network.load_state_dict(given["state"])
    ids = tuple(str(k) for k in range(size))
    bank = le.StimulusBank(given["images"][:size], torch.arange(size) % 2, ids, ("a", "b"))
    asked = {le.Outputs(): [""], le.Activations(): ["0"], le.Pooled(): ["0"], le.BankGradients(): ["2"]}
    found, device = run_bank(network, bank, asked).found, torch.device("cpu")
    result = {
        "share": len(found[le.Outputs()][""]),
        "rows": le.Activations().join(found[le.Activations()], size, device)["activations"]["0"],
        "outputs": le.Outputs().join(found[le.Outputs()], size, device)["outputs"],
        "gradient": le.BankGradients().join(found[le.BankGradients()], size, device)["bank_gradients"]["2"],
        "agree": agree([rank == world - 1, False, True, rank == 0], torch.device("cpu")),
    }
    torch.save(result, f"{folder}/{world}_{size}_{rank}.pt")
    dist.destroy_process_group()

work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(sys.argv[2]))
"""


_CASES = [(2, 7), (2, 8), (3, 7), (3, 8), (3, 2)]


@pytest.mark.distributed
def test_many_processes_give_the_rows_of_one_in_the_banks_order(tmp_path: Path):
    network, bank = make_mlp(), make_bank(8, 4)
    torch.save({"state": network.state_dict(), "images": bank.images}, tmp_path / "given.pt")
    alone, outputs = both(network, bank, ["0"])
    for world, size in _CASES:
        ended = run_ranks([sys.executable, "-c", _PROCESSES, tmp_path, str(size)], world)
        assert [one.returncode for one in ended] == [0] * world, [one.stdout for one in ended]
        results = [torch.load(tmp_path / f"{world}_{size}_{rank}.pt") for rank in range(world)]
        torch.testing.assert_close(results[0]["rows"], alone["0"][:size], rtol=0, atol=1e-6)
        torch.testing.assert_close(results[0]["outputs"], outputs[:size], rtol=0, atol=1e-6)
        loss = torch.nn.functional.cross_entropy(network(bank.images[:size]), bank.labels[:size])
        gradient = torch.autograd.grad(loss, network[2].weight)[0]
        torch.testing.assert_close(results[0]["gradient"], gradient, rtol=0, atol=1e-6)
        assert all(result["gradient"] is None for result in results[1:])
        assert all(result["rows"] is None and result["outputs"] is None for result in results[1:])
        assert sum(result["share"] for result in results) == size
        assert all(result["agree"] == [True, False, True, True] for result in results)
