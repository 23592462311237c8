"""Nothing mixes devices: every probe looks at a network on a pretended GPU, on a machine that has none.

A pretended tensor says that it is elsewhere and keeps its numbers on the CPU. An operation that a GPU would refuse, as
its operands are on two devices, is refused; so is `numpy`. What is worked out is what the CPU works out, bit for bit.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

import lightning_emerge as le
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.reporting import Sinks

AWAY = torch.device("meta")  # the one device that needs no driver
aten = torch.ops.aten
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
_JOINING = (aten.cat.default, aten.stack.default)
_make_tensor = torch.tensor


class Away(torch.Tensor):
    """A tensor on the pretended GPU."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Away:
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **shape, dtype=held.dtype, device=AWAY)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def numpy(self, *_args: Any, **_kwargs: Any):
        raise TypeError("can't convert a tensor on a GPU to numpy. Use Tensor.cpu() to copy it first.")

    __array__ = numpy

    # What torch makes of Python's lists it makes on the tensor's device, past what can be overridden.
    def tolist(self):
        return self.held.tolist()

    def new_tensor(self, data, **_options):
        return Away(_make_tensor(data, dtype=self.dtype))

    def __getitem__(self, index):
        return super().__getitem__(_indices(index))

    def __setitem__(self, index, value):
        super().__setitem__(_indices(index), value)


def _indices(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    if not isinstance(index, list):
        return index
    return Away(_make_tensor(index, dtype=None if index else torch.int64))


def _tensor(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
    made = _make_tensor(*args, **kwargs)
    return Away(made) if device is not None and torch.device(device) == AWAY else made


def _check(operation: Any, args: Any, leaves: list[Any]) -> None:
    tensors = [value for value in leaves if isinstance(value, torch.Tensor)]
    here = [value for value in tensors if not isinstance(value, Away)]
    assert not any(value.is_meta for value in here), f"{operation}: a pretended tensor lost its numbers"
    if len(here) in (0, len(tensors)) or operation is aten.copy_.default:
        return
    if operation in _INDEXING:
        source, _, *values = args
        values = [value for value in values if isinstance(value, torch.Tensor) and value.dim()]
        mixed = not isinstance(source, Away) or not all(isinstance(value, Away) for value in values)
    else:
        # A number on the CPU may join a tensor on a GPU, if it is not what is written to.
        written = operation._schema.is_mutable and not isinstance(args[0], Away)
        mixed = written or operation in _JOINING or any(value.dim() for value in here)
    if mixed:
        raise RuntimeError(f"{operation}: expected all tensors to be on the same device")


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    leaves, form = tree_flatten((args, kwargs))
    _check(operation, args, leaves)
    wrappers = {id(value.held): value for value in leaves if isinstance(value, Away)}
    away = bool(wrappers)
    args, kwargs = tree_unflatten([value.held if isinstance(value, Away) else value for value in leaves], form)
    if kwargs.get("device") is not None:
        away = torch.device(kwargs["device"]) == AWAY
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if away and kwargs.get("generator") is not None:
        raise RuntimeError(f"{operation}: expected a generator of the GPU, found one of the CPU")
    found = operation(*args, **kwargs)

    def wrap(value: torch.Tensor) -> torch.Tensor:
        return wrappers.get(id(value)) if id(value) in wrappers else Away(value) if away else value

    return wrap(found) if type(found) is torch.Tensor else tree_map_only(torch.Tensor, wrap, found)


class _Factories(TorchDispatchMode):
    """Makes what is made on the pretended GPU there."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


@pytest.fixture
def away(monkeypatch):
    monkeypatch.setattr(torch, "tensor", _tensor)
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_kwargs: contextlib.nullcontext())
    with _Factories():
        yield


def _move(module: nn.Module) -> nn.Module:
    for part in module.modules():
        for name, own in part._parameters.items():
            part._parameters[name] = None if own is None else nn.Parameter(Away(own.detach()))
        for name, own in part._buffers.items():
            part._buffers[name] = None if own is None else Away(own)
    return module


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.steps: set[int] = set()
        self.found: dict[tuple[int, str], np.ndarray] = {}

    def check(self, measurement: le.Measurement) -> None: ...

    def write(self, step: int, measurements: list[le.Measurement]) -> None:
        self.found |= {(step, one.name): one.values for one in measurements}

    def close(self) -> None: ...


def _train(
    model: nn.Module, data: le.TokenDataModule, probes: list[le.Probe], device: torch.device, past: Any = None
) -> tuple[Kept, dict[str, Any]]:
    """Two steps of training as Lightning takes them, with probes."""
    kept, batch = Kept(), next(iter(data.train_dataloader()))
    conductor = Conductor(model, probes, data.stimulus_bank(), Sinks([kept]), step=0, steps_per_epoch=2, past=past)
    try:
        conductor.begin(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(2):
            conductor.before_batch(step)
            loss = cross_entropy(model(batch["image"].to(device)), batch["label"].to(device))
            optimizer.zero_grad()
            loss.backward()
            conductor.before_update(step)
            optimizer.step()
            conductor.after_update()
            conductor.look(step + 1, last=step == 1)
        conductor.settle()
        return kept, conductor.remember()
    finally:
        conductor.close()


def _probes(all_probes) -> list[le.Probe]:
    # Every distance with comparisons between them: one of a kind is in the shipped ones already.
    pairs = (("cosine", "spearman"), ("euclidean", "kendall_tau_a"), ("mahalanobis", "whitened_cosine"))
    looks = le.EverySteps(1)
    similar = [le.SimilarityProbe(looks, None, *pair, on_error="raise") for pair in (*pairs, ("cosine", "bures"))]
    unit = le.MaximisationProbe(looks, target="unit", filters=2, iterations=2, on_error="raise")
    quick = {
        le.CurvatureProbe: {"eigenvalues": 2, "iterations": 3, "vectors": 2},
        le.PartProbe: {"attributed": 1},
    }
    shipped = [probe for probe in all_probes(looks) if type(probe) not in quick]
    return [*shipped, *(kind(schedule=looks, on_error="raise", **few) for kind, few in quick.items()), *similar, unit]


@pytest.mark.slow
def test_every_probe_finds_on_a_pretended_gpu_what_it_finds_on_the_cpu(make_data, make_model, all_probes, away):
    data = make_data(bank_exemplars=7)
    data.setup("fit")
    expected, _ = _train(make_model(dropout=0.0), data, _probes(all_probes), torch.device("cpu"))
    model = _move(make_model(dropout=0.0))
    assert next(model.parameters()).device == AWAY
    found, _ = _train(model, data, _probes(all_probes), AWAY)
    assert set(found.found) == set(expected.found)
    assert {step for step, _ in found.found} == {0, 1, 2}
    for key, values in expected.found.items():
        np.testing.assert_array_equal(found.found[key], values, err_msg=str(key))


def test_what_a_checkpoint_kept_is_compared_with_on_the_gpu(make_data, make_model, away):
    data, probes = make_data(), [le.FilterProbe(on_error="raise"), le.GradientProbe(on_error="raise")]
    data.setup("fit")
    _, past = _train(_move(make_model()), data, probes, AWAY)
    read = tree_map_only(Away, lambda value: value.held.clone(), past)  # as torch.load(map_location="cpu") gives it
    found, _ = _train(_move(make_model()), data, probes, AWAY, read)
    probes = [le.FilterProbe(on_error="raise"), le.GradientProbe(on_error="raise")]
    _, past = _train(make_model(), data, probes, torch.device("cpu"))
    expected, _ = _train(make_model(), data, probes, torch.device("cpu"), past)
    assert set(found.found) == set(expected.found)
    assert "start_distance" in {name for _, name in expected.found}
    for key, values in expected.found.items():
        np.testing.assert_array_equal(found.found[key], values, err_msg=str(key))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, away: here + away,
        lambda here, away: away * here,
        lambda here, away: torch.stack([here[0], away[0]]),
        lambda here, away: here[away.long()],
        lambda here, away: here.add_(away[0]),
        lambda here, away: torch.isin(away, torch.tensor([1.0, 2.0])),
        lambda here, away: away.index_put_((torch.tensor([0]),), here[:1]),
        lambda here, away: torch.rand(3, device=AWAY, generator=torch.Generator()),
    ],
)
def test_what_a_gpu_refuses_is_refused(mixed, away):
    here = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"expected (all tensors|a generator)"):
        mixed(here, Away(here.clone()))


@pytest.mark.parametrize(
    "allowed",
    [
        lambda here, away: away * here[0],
        lambda here, away: away[here.long() - 1],
        lambda here, away: away.copy_(here),
        lambda here, away: here.copy_(away),
        lambda here, away: here.to(away) + away,
        lambda here, away: torch.ones(3, device=away.device) + away,
        lambda here, away: torch.tensor([1.0, 2.0, 3.0], device=away.device) + away,
    ],
)
def test_what_a_gpu_allows_is_allowed(allowed, away):
    found = allowed(torch.ones(3), Away(torch.ones(3))).cpu()
    torch.testing.assert_close(found, allowed(torch.ones(3), torch.ones(3)), rtol=0, atol=0)


def test_numpy_of_a_pretended_tensor_is_refused(away):
    with pytest.raises(TypeError, match="numpy"):
        Away(torch.ones(3)).numpy()
    assert Away(torch.ones(3)).cpu().numpy().tolist() == [1, 1, 1]
