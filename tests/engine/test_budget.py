"""What looks need, counted by hand for small networks; what is said of it, and what is refused."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge.engine.budget import (
    LARGE_RECORDS,
    MOST_COMPARED,
    MOST_NAMED,
    Asked,
    Budget,
    drawable,
    free_space,
    memory_of,
    plan_look,
    refuse,
    warn,
    warn_of_records,
)
from lightning_emerge.engine.session import find_budget, refuse_sharding


def _bank(stimuli: int = 12, tokens: int = 4, side: int = 8) -> le.StimulusBank:
    labels = torch.arange(stimuli) % tokens
    names = tuple(f"token{k}" for k in range(tokens))
    return le.StimulusBank(torch.rand(stimuli, 3, side, side), labels, tuple(map(str, range(stimuli))), names)


def _network() -> nn.Sequential:
    """Layers of 5 x 8 x 8 = 320 and 4 outputs, weights of 5 x 27 = 135 and 4 x 320 = 1,280."""
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(320, 4))


def _plan(*needs: tuple[le.Need, ...], layers: tuple[str, ...] = ("0", "3"), processes: int = 1, **bank: int) -> Budget:
    asked = [Asked(f"Probe{k}", need, layers) for k, need in enumerate(needs)]
    return plan_look(_network(), asked, _bank(**bank), processes)


def test_activations_are_counted_once_however_many_probes_ask_for_them():
    one, two = _plan((le.Activations(),)), _plan(*[(le.Activations(),)] * 2)
    assert one.memory == two.memory == {"activations": 4 * 12 * (320 + 4)}
    assert (one.stimuli, one.tokens, one.fewest, one.comparing) == (12, 4, 3, ())


class Answers(le.Rows):
    """What the network returns, twice."""

    whole = True

    def rows(self, chunk, layer):
        return chunk.outputs().repeat(1, 2)


def test_what_is_of_the_whole_network_is_counted_once_however_many_layers_a_probe_has():
    assert _plan((Answers(),)).memory == {"activations": 4 * 12 * 8}


def test_inputs_count_like_activations():
    assert _plan((le.Inputs(),), layers=("0",)).memory == {"activations": 4 * 12 * 3 * 8 * 8}


def test_process_zero_holds_its_share_and_a_layer_that_is_put_together_besides():
    assert _plan((le.Activations(),), processes=3).total == 4 * 12 * ((320 + 4) * 4 / 3 + 320)


def test_gradients_grow_with_tokens_and_weights_and_comparisons_with_the_square_of_stimuli():
    few = _plan((le.TokenGradients(), le.GradientSquares()))
    assert few.memory["gradients by token"] == 2 * 4 * 4 * (135 + 1280) + 16 * (135 + 1280)
    small, large = (_plan((le.Images(), le.Pairs()), stimuli=n) for n in (12, 24))
    assert large.memory["comparisons of stimuli"] == 4 * small.memory["comparisons of stimuli"] > 0
    assert small.comparing == ("Probe0",)


def test_a_token_without_stimuli_is_not_the_fewest():
    bank = _bank(stimuli=5, tokens=2)
    bank = le.StimulusBank(bank.images, bank.labels, bank.ids, ("a", "b", "nobody"))
    assert plan_look(_network(), [], bank).fewest == 2


def _budget(**changes: object) -> Budget:
    settings = {"stimuli": 250, "tokens": 5, "fewest": 50, "memory": {"activations": 1e9}, "comparing": ("Similar",)}
    return Budget(**{**settings, **changes})  # type: ignore[arg-type]


def test_what_cannot_fit_is_refused_with_its_size_and_what_to_do():
    refuse(_budget(), 1e9)
    with pytest.raises(ValueError, match=r"1\.0 GB here, of 0\.5 GB.*bank_exemplars"):
        refuse(_budget(), 5e8)


def test_nothing_is_said_of_a_run_of_ordinary_size():
    assert warn(_budget(), 16e9) == []
    assert warn_of_records({"Similar": 4e6}, {"Similar": 50}, 1e9) == []


@pytest.mark.parametrize(
    ("changes", "room", "words"),
    [
        ({}, 1.5e9, ["less than half of the memory", "1.0 GB", "of 1.5 GB"]),
        ({"stimuli": MOST_COMPARED + 1}, inf, ["banks of up to 1,000", "1,001", "Similar", "sparser schedule"]),
        ({"fewest": 2}, inf, ["takes 3 of each", "has 2", "fitted to one of it"]),
        ({"fewest": 1}, inf, ["has 1", "fitted to none of it"]),
        ({"tokens": MOST_NAMED + 1}, inf, ["room for 32 tokens", "here are 33", "left out"]),
    ],
)
def test_each_limit_is_one_line(changes, room, words):
    (said,) = warn(_budget(**changes), room)
    assert [word for word in words if word not in said] == [], said


def test_read_outs_and_comparisons_matter_only_if_a_probe_makes_them():
    assert warn(_budget(stimuli=9999, fewest=1, comparing=()), inf) == []


def test_records_that_do_not_fit_are_said_with_the_largest_first():
    (said,) = warn_of_records({"Small": 1e6, "Similar": 1e9}, {"Small": 3, "Similar": 30}, inf)
    assert "up to 30.0 GB" in said
    assert said.index("30.0 GB Similar") < said.index("3 MB Small")
    (said,) = warn_of_records({"Similar": 1e9}, {"Similar": 2}, 1e9)
    assert "1.0 GB are free" in said
    assert warn_of_records({"Similar": LARGE_RECORDS}, {"Similar": 1}, inf) == []


def test_pictures_that_name_too_many_tokens_are_left_out():
    def found(tokens: int, *, noted: bool) -> le.Measurement:
        names = [f"t{k}" for k in range(tokens)]
        stimuli = [f"s{k}" for k in range(2 * tokens)]
        axis = le.Axis("stimulus", stimuli, notes={"token": names * 2}) if noted else le.Axis("token", names)
        return le.Measurement("found", np.zeros(len(axis.labels)), (axis,), 0)

    for noted in (True, False):
        assert drawable(found(MOST_NAMED, noted=noted))
        assert not drawable(found(MOST_NAMED + 1, noted=noted))


def test_this_machine_has_memory_and_disk(tmp_path):
    assert 2**28 < memory_of(torch.device("cpu")) < inf
    assert memory_of(torch.device("meta")) == inf
    assert 0 < free_space(str(tmp_path / "not" / "there")) < inf
    assert free_space("memory://run") == inf


def test_planning_leaves_the_network_and_random_numbers_alone(make_model):
    model, bank = make_model(), _bank(side=16)
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    found = find_budget(model, [le.SimilarityProbe()], bank, 1)
    assert found is not None
    assert found.total > 0
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_planned_is_left_to_the_look(make_model):
    class Broken(le.TokenClassifier):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("planted")

    broken = Broken(make_model().network)
    assert find_budget(broken, [le.SimilarityProbe()], _bank(side=16), 1) is None
    assert find_budget(make_model(), [le.FilterProbe()], None, 1) is None


def test_a_fit_that_cannot_look_stops_before_its_first_step(make_data, make_model, make_trainer, monkeypatch):
    monkeypatch.setattr("lightning_emerge.engine.budget.memory_of", lambda device: 1000.0)
    trainer = make_trainer([le.SimilarityProbe()])
    with pytest.raises(ValueError, match="A look fits into memory"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 0


def test_a_fit_says_what_is_dear_and_goes_on(make_data, make_model, make_trainer, monkeypatch):
    monkeypatch.setattr("lightning_emerge.engine.budget.LARGE_RECORDS", 4 * 4 * 15**2 * 3.5)
    trainer = make_trainer([le.SimilarityProbe(le.EverySteps(1))], max_steps=3)
    with pytest.warns(UserWarning, match="Records of a run should stay below") as caught:
        trainer.fit(make_model(), datamodule=make_data())
    assert len([1 for one in caught if "Records of a run" in str(one.message)]) == 1
    assert trainer.global_step == 3


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_3", "ModelParallelStrategy", "FSDPStrategy"])
def test_strategies_that_split_weights_are_refused(strategy):
    refuse_sharding(["ddp", "DDPStrategy", "SingleDeviceStrategy", "auto"])
    with pytest.raises(ValueError, match=f"whole weights.*{strategy}.*strategy ddp"):
        refuse_sharding([strategy])
