"""A pass of the bank: what of it could be had, and what not, the same in all processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from children import run_ranks
from passed import run_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.engine.passes import ask, ask_all, pass_bank, trouble_of


def make_bank(size: int, *shape: int) -> le.StimulusBank:
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))
    return le.StimulusBank(images, torch.arange(size) % 2, tuple(map(str, range(size))), ("a", "b"))


class Odd(nn.Module):
    """Gives what is asked for from a layer of its own."""

    def __init__(self, odd: nn.Module) -> None:
        super().__init__()
        self.plain, self.odd = nn.Linear(4, 3), odd

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.odd(rows)
        return self.plain(rows)


class Gives(nn.Module):
    def __init__(self, give) -> None:
        super().__init__()
        self.give = give

    def forward(self, rows: torch.Tensor):
        return self.give(rows)


@pytest.mark.parametrize(
    ("give", "reason"),
    [
        (lambda rows: rows.new_ones(1, 4), r"a row for each stimulus; layer 'odd' gives \(1, 4\) for"),
        (lambda rows: rows.T, r"a row for each stimulus; layer 'odd' gives \(4, "),
        (lambda rows: rows.sum(), r"a row for each stimulus; layer 'odd' gives \(\) for"),
        (lambda rows: rows.repeat(1, len(rows)), r"one shape for all stimuli; layer 'odd' gives \(128,\) and \(12,\)"),
        (lambda rows: rows.to(torch.complex64), "dense and real; layer 'odd' gives others"),
        (lambda rows: rows.to_sparse(), "dense and real"),
        (lambda rows: {"rows": None}, "one tensor; layer 'odd' gives a dict"),
        (lambda rows: None, "one tensor; layer 'odd' gives a NoneType"),
    ],
)
@pytest.mark.parametrize("kind", ["activations", "pooled"])
def test_what_is_no_row_of_numbers_a_stimulus_is_the_trouble_of_its_layer(give, reason, kind):
    torch.manual_seed(0)
    network, bank = Odd(Gives(give)), make_bank(70, 4)  # of each token 32 pass, and then 3
    asked = ["odd", "plain"]
    seen = run_bank(network, bank, asked if kind == "activations" else [], pooled=asked if kind == "pooled" else [])
    assert list(seen.troubles) == [(kind, "odd")]
    with pytest.raises(ValueError, match=reason):
        raise seen.troubles[kind, "odd"]
    assert list(getattr(seen, kind)) == ["plain"]
    torch.testing.assert_close(getattr(seen, kind)["plain"], network.plain(bank.images))
    torch.testing.assert_close(seen.outputs, network.plain(bank.images))


def test_a_layer_that_is_called_by_keyword_is_the_trouble_of_who_needs_its_input():
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu = nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)
            self.second, self.fc = nn.Conv2d(2, 2, 3), nn.Linear(2, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(self.second(input=self.relu(self.first(images))).mean(dim=(2, 3)))

    bank, network = make_bank(6, 1, 8, 8), Keyword()
    seen = run_bank(network, bank, ["second"], inputs=["first", "second"], squares=["first", "second"])
    assert set(seen.troubles) == {("inputs", "second"), ("squares", "second")}
    assert torch.equal(seen.inputs["first"], bank.images)
    assert list(seen.squares) == ["first"]
    assert list(seen.activations) == ["second"]


def test_gradients_through_what_is_not_differentiated_are_refused_and_not_zero():
    """A frozen backbone has no gradients, and squares of its gradients are no zeros."""

    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                rows = self.backbone(rows)
            return self.head(rows)

    network, bank, layers = Frozen(), make_bank(6, 4), ["backbone", "head"]
    seen = run_bank(network, bank, layers, gradients=layers, token_gradients=layers, squares=layers)
    assert set(seen.troubles) == {(kind, "backbone") for kind in ("gradients", "token_gradients", "squares")}
    loss = nn.functional.cross_entropy(network(bank.images), bank.labels)
    expected = torch.autograd.grad(loss, network.head.weight)[0]
    torch.testing.assert_close(seen.gradients["head"], expected)
    assert list(seen.activations) == layers


def test_a_probe_gets_the_trouble_of_what_it_asked_for():
    troubles = {
        (le.Activations(), "b"): ValueError("b"),
        (le.GradientSquares(), ""): ValueError("all"),
        (le.Outputs(), ""): ValueError("o"),
    }

    def of(needs: tuple[le.Need, ...], *layers: str) -> str:
        return str(trouble_of(ask(needs, layers), troubles) or "")

    assert of((le.Activations(),), "a") == ""
    assert of((le.Activations(),), "a", "b") == "b"
    assert of((le.Pooled(),), "a", "b") == ""
    assert of((le.GradientSquares(),), "a") == "all"
    assert of((le.Activations(), le.Outputs()), "a") == "o"
    assert of((le.Weights(), le.Images()), "b") == ""
    everything = {(None, ""): ValueError("network")}
    assert str(trouble_of(ask((le.Pooled(),), ("a",)), everything)) == "network"
    assert trouble_of(ask((le.Network(), le.Weights()), ("a",)), everything) is None


_PROCESSES = """
# One of two processes of a case.
import os, sys
import torch, torch.distributed as dist
from torch import nn
import lightning_emerge as le
from lightning_emerge.engine.passes import ask, ask_all, pass_bank, try_layers

torch.set_num_threads(1)
folder, SIZE = sys.argv[1], 9

class Uneven(nn.Module):
    def __init__(self, case, alone):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.case, self.alone, self.calls = case, alone, 0

    def forward(self, rows):
        self.calls += 1
        hidden = self.first(rows)
        if not (self.case == "unreached" and self.alone):
            hidden = hidden + self.second(hidden)
        if self.case == "breaks" and self.alone and torch.is_grad_enabled():
            raise RuntimeError("planted")
        if self.alone and (self.case == "stops" or (self.case == "once" and self.calls <= 2)):
            raise RuntimeError("planted")
        out = self.head(hidden)
        return {"out": out, "more": out} if self.case == "dict" and self.alone else out

class Sometimes(le.Rows):
    whole = True
    def rows(self, chunk, layer):
        return chunk.outputs() if chunk.token == 0 else None  # process one has no stimulus of it

class One(le.Probe):
    needs = (le.Activations(), le.Outputs(), le.TokenGradients(), le.GradientSquares())
    def measure(self, capture): ...

def by_hand(case, bank):
    # Gradients of each token's loss and mean squares of those of stimuli, each through the network of its process.
    found = []
    for number in range(SIZE):
        torch.manual_seed(0)
        network = Uneven(case, number % 2 == 1)
        network.calls = 2
        loss = nn.functional.cross_entropy(network(bank.images[number : number + 1]), bank.labels[number : number + 1])
        weights = [getattr(network, layer).weight for layer in ("first", "second", "head")]
        own = torch.autograd.grad(loss, weights, allow_unused=True)
        found.append([torch.zeros_like(weight) if one is None else one for weight, one in zip(weights, own)])
    layers = {layer: torch.stack(rows) for layer, rows in zip(("first", "second", "head"), zip(*found))}
    def by_token(rows):
        return torch.stack([rows[bank.labels == token].mean(dim=0) for token in range(2)])
    tokens = {layer: by_token(rows) for layer, rows in layers.items()}
    return tokens, {layer: rows.square().mean(dim=0) for layer, rows in layers.items()}

def work(rank, case):
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    network = Uneven(case, rank == 1).eval()
    images = torch.randn(SIZE, 4)
    bank = le.StimulusBank(images, torch.arange(SIZE) % 2, tuple(map(str, range(SIZE))), ("a", "b"))
    layers = ("first", "second", "head")
    asked, device = ask_all([ask((*One.needs, Sometimes()), layers)], layers), torch.device("cpu")
    refused = try_layers(network, bank, asked | {le.Filters(): layers}, device)
    seen, troubles = pass_bank(network, bank, asked, device)
    found = {}
    for need in asked:
        found |= need.join(seen.found[need], SIZE, device)
    def named(keys):
        return sorted([need.name if need else "", layer] for need, layer in keys)
    torch.save({
        "troubles": named(troubles),
        "refused": named(refused),
        "rows": found["activations"],
        "gradients": found["token_gradients"],
        "squares": found["gradient_squares"],
        "expected": by_hand(case, bank) if case in ("none", "unreached", "once") else None,
        "outputs": found["outputs"],
        "sometimes": found["sometimes"],
    }, f"{folder}/{case}_{rank}.pt")
    dist.destroy_process_group()

work(int(os.environ["RANK"]), sys.argv[2])
"""
_LAYERS = ("first", "second", "head")
_GRADIENTS = [["gradient_squares", ""], ["token_gradients", ""]]
_CASES = {
    "none": ([], [], _LAYERS, _LAYERS),
    "unreached": (
        [["activations", "second"]],
        [["activations", "second"]],
        ("first", "head"),
        _LAYERS,
    ),
    "dict": ([["outputs", ""], ["sound", ""], *_GRADIENTS], [], _LAYERS, ()),
    "breaks": (_GRADIENTS, [], _LAYERS, ()),
    "stops": ([["", ""], *_GRADIENTS], [["filters", layer] for layer in sorted(_LAYERS)], (), ()),
    "once": ([], [["filters", layer] for layer in sorted(_LAYERS)], _LAYERS, _LAYERS),
}


@pytest.mark.distributed
def test_what_fails_in_one_process_fails_in_all_and_the_rest_is_put_together(tmp_path: Path):
    for case, (troubles, refused, rows, gradients) in _CASES.items():
        ended = run_ranks([sys.executable, "-c", _PROCESSES, tmp_path, case], 2)
        assert [one.returncode for one in ended] == [0, 0], (case, [one.stdout for one in ended])
        for rank in range(2):
            found = torch.load(tmp_path / f"{case}_{rank}.pt")
            assert found["troubles"] == sorted(troubles), case
            assert found["refused"] == refused, case
            assert tuple(found["rows"]) == rows, case
            assert tuple(found["gradients"]) == tuple(found["squares"]) == gradients, case
        first = torch.load(tmp_path / f"{case}_0.pt")
        assert all(len(values) == 9 for values in first["rows"].values())
        assert first["sometimes"] is None, case  # as one process found it and the other did not
        assert (first["outputs"] is None) == (case in ("dict", "stops"))
        for layer in gradients:
            for sums, own in zip((first["gradients"], first["squares"]), first["expected"], strict=True):
                torch.testing.assert_close(sums[layer], own[layer], check_dtype=False)


def test_one_process_passes_once_for_all_that_is_asked_for():
    network, bank = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), make_bank(8, 4)
    passed: list[int] = []
    network.register_forward_hook(lambda _module, given, _output: passed.append(len(given[0])))
    needs = [(le.Activations(),), (le.Outputs(), le.TokenGradients()), (le.GradientSquares(),)]
    asked = ask_all([ask(one, ("0", "1")) for one in needs], ("0", "1"))
    seen, troubles = pass_bank(network, bank, asked, torch.device("cpu"))
    assert passed == [4, 4]
    assert not troubles
    for need in (le.Activations(), le.TokenGradients(), le.GradientSquares()):
        assert list(seen.found[need]) == ["0", "1"]
