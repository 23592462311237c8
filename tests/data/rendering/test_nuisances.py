import pickle
from dataclasses import FrozenInstanceError, replace
from inspect import signature
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.data.rendering.nuisances import LIMITS, Nuisances

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True, database=None)
NAMES = list(LIMITS)
SINGLE = [name for name in NAMES if name not in ("scale", "clutter")]
PRESETS = ("easy", "default", "hard")


def test_there_are_eleven_and_each_has_a_limit_a_unit_and_a_description():
    assert set(Nuisances().values()) == set(signature(Nuisances).parameters) - {"preset"} == set(NAMES)
    assert len(NAMES) == 11
    for limit in LIMITS.values():
        assert limit.lowest < limit.highest
        assert limit.unit
        assert limit.about


@pytest.mark.parametrize("name", [*SINGLE, "clutter"])
@pytest.mark.parametrize("value", [-0.01, -1, 45.1, nan, inf, -inf])
def test_a_value_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"nuisances\.{name} .* 0 to .*{value}\."):
        Nuisances(**{name: value})


@pytest.mark.parametrize(
    ("name", "highest"),
    [
        ("position", 0.5),
        ("rotation", 45),
        ("jitter", 0.5),
        ("colour", 1),
        ("light", 0.5),
        ("background", 1),
        ("clutter", 8),
        ("occlusion", 0.5),
        ("blur", 0.05),
        ("noise", 0.5),
    ],
)
def test_the_ends_of_a_range_are_allowed_and_no_more(name, highest):
    assert LIMITS[name][:2] == (0, highest)
    for end in (0, highest):
        assert getattr(Nuisances(**{name: end}), name) == end
    with pytest.raises(ValueError, match=f"0 to {highest:g}; got {highest + 0.01}"):
        Nuisances(**{name: highest + 0.01})


@pytest.mark.parametrize(
    "scale", [(0.29, 1.0), (1.0, 1.51), (1.1, 0.9), (nan, 1.0), (1.0, nan), (1.0,), (0.5, 0.6, 0.7)]
)
def test_a_scale_out_of_its_range_is_refused(scale):
    with pytest.raises(ValueError, match=r"nuisances\.scale .*0\.3 to 1\.5"):
        Nuisances(scale=scale)


@pytest.mark.parametrize("scale", [(0.3, 1.5), (0.3, 0.3), [1.5, 1.5]])
def test_a_scale_s_ends_are_allowed(scale):
    assert Nuisances(scale=scale).scale == tuple(scale)


@pytest.mark.parametrize("clutter", [0.5, 2.999])
def test_half_a_piece_of_clutter_is_refused(clutter):
    with pytest.raises(ValueError, match=rf"clutter .*whole number.* {clutter}"):
        Nuisances(clutter=clutter)


def test_an_unknown_preset_is_refused_and_the_known_are_listed():
    with pytest.raises(ValueError, match=r"preset .*easy, default, hard.*'harder'"):
        Nuisances("harder")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_at_least_as_hard_as_the_one_before(name):
    def hardness(value):
        return (-value[0], value[1]) if name == "scale" else (value, value)

    easy, default, hard = (hardness(Nuisances(preset).values()[name]) for preset in PRESETS)
    assert easy <= default <= hard
    assert name == "colour" or easy < hard


def test_a_preset_that_is_not_named_is_the_default():
    assert Nuisances() == Nuisances("default")
    assert len({Nuisances(preset) for preset in PRESETS}) == 3


@pytest.mark.parametrize("preset", PRESETS)
@given(name=st.sampled_from(SINGLE), share=st.floats(0, 1))
@PROPERTY
def test_what_is_given_is_set_and_the_rest_stays_as_the_preset_says(preset, name, share):
    value = share * LIMITS[name].highest
    changed, plain = Nuisances(preset, **{name: value}).values(), Nuisances(preset).values()
    assert changed == {**plain, name: value}


def test_a_zero_is_not_taken_for_a_value_that_is_not_given():
    zeros = dict.fromkeys([*SINGLE, "clutter"], 0)
    assert Nuisances("hard", **zeros).values() == {**zeros, "scale": Nuisances("hard").scale}


def test_they_are_values_that_can_be_compared_hashed_copied_and_sent_to_another_process_but_not_changed():
    nuisances = Nuisances("hard", blur=0.0)
    assert pickle.loads(pickle.dumps(nuisances)) == nuisances == Nuisances(**nuisances.values())
    assert replace(nuisances, noise=0.0) == Nuisances("hard", blur=0.0, noise=0.0)
    assert hash(replace(nuisances)) == hash(nuisances)
    with pytest.raises(FrozenInstanceError):
        nuisances.blur = 0.01
    with pytest.raises(ValueError, match=r"nuisances\.noise"):
        replace(nuisances, noise=2.0)
