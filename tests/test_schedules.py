from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.schedules import AnyOf, At, Epochs, EverySteps, LogSpaced, LossMoved, Schedule, follows_loss

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def looks(schedule: Schedule, until: int) -> list[int]:
    return [step for step in range(until) if schedule(step)]


def nearest_to_a_point(step: int, per_decade: int) -> bool:
    """Whether a whole power of 10 ** (1 / per_decade) rounds to the step, in whole numbers alone."""
    low, high = (2 * step - 1) ** per_decade, (2 * step + 1) ** per_decade
    power = 2**per_decade
    while power < low:
        power *= 10
    return power < high


class TestLogSpaced:
    def test_the_steps_of_the_first_two_decades(self):
        first = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 18, 20, 22, 25, 28, 32, 35, 40, 45, 50]
        assert looks(LogSpaced(20), 101) == [*first, 56, 63, 71, 79, 89, 100]

    @pytest.mark.parametrize("per_decade", [1, 3, 7, 20, 50])
    def test_a_step_is_looked_at_if_it_is_the_nearest_to_a_point(self, per_decade):
        expected = [0] + [step for step in range(1, 3000) if nearest_to_a_point(step, per_decade)]
        assert looks(LogSpaced(per_decade), 3000) == expected

    @given(per_decade=st.integers(1, 100), step=st.integers(1, 10**7))
    @PROPERTY
    def test_so_are_steps_far_out(self, per_decade, step):
        assert LogSpaced(per_decade)(step) == nearest_to_a_point(step, per_decade)

    @pytest.mark.parametrize("per_decade", [1, 20, 1000])
    def test_step_0_and_powers_of_ten_are_always_looked_at(self, per_decade):
        assert all(LogSpaced(per_decade)(step) for step in (0, 1, 10, 100, 10**5, 10**9))

    def test_a_late_decade_has_as_many_looks_as_asked_for(self):
        schedule = LogSpaced(20)
        assert sum(schedule(step) for step in range(10_000, 100_000)) == 20

    @pytest.mark.parametrize("per_decade", [20, 100, 1000])
    def test_every_early_step_is_looked_at(self, per_decade):
        assert looks(LogSpaced(per_decade), int(per_decade / 2.3)) == list(range(int(per_decade / 2.3)))

    def test_no_look_before_the_start(self):
        assert not LogSpaced()(-1)

    def test_none_between_step_0_and_the_first(self):
        all_of_them, later = looks(LogSpaced(10), 700), looks(LogSpaced(10, first=25), 700)
        assert later == [step for step in all_of_them if step == 0 or step >= 25]
        assert later[:3] == [0, 25, 32]

    def test_first_is_a_step(self):
        with pytest.raises(ValueError, match="LogSpaced: first is at least 1; got 0"):
            LogSpaced(10, first=0)

    @pytest.mark.parametrize("per_decade", [0, -1, 1001])
    def test_out_of_range(self, per_decade):
        with pytest.raises(ValueError, match=f"LogSpaced: per_decade lies in 1 to 1000; got {per_decade}"):
            LogSpaced(per_decade)


class TestEverySteps:
    @pytest.mark.parametrize(("n", "expected"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (10, [0])])
    def test_step_0_and_every_nth(self, n, expected):
        assert looks(EverySteps(n), 7) == expected

    @pytest.mark.parametrize("n", [0, -3])
    def test_out_of_range(self, n):
        with pytest.raises(ValueError, match=f"EverySteps: n is at least 1; got {n}"):
            EverySteps(n)


class TestAt:
    def test_the_steps_listed_and_no_others(self):
        assert looks(At([7, 0, 3, 3]), 20) == [0, 3, 7]

    def test_step_0_only_if_listed(self):
        assert not At([1])(0)

    @pytest.mark.parametrize("steps", [[], [3, -1]])
    def test_out_of_range(self, steps):
        with pytest.raises(ValueError, match="at least one step, none negative; got") as caught:
            At(steps)
        assert str(steps) in str(caught.value)


class TestAnyOf:
    @given(
        n=st.integers(1, 12), steps=st.lists(st.integers(0, 60), min_size=1, max_size=5), per_decade=st.integers(1, 9)
    )
    @PROPERTY
    def test_the_union(self, n, steps, per_decade):
        parts = (EverySteps(n), At(steps), LogSpaced(per_decade))
        union = set().union(*(looks(part, 60) for part in parts))
        assert looks(AnyOf(parts), 60) == sorted(union)

    def test_one_schedule_is_itself(self):
        assert looks(AnyOf([At([2])]), 5) == [2]

    def test_a_list_changed_afterwards_changes_nothing(self):
        schedules = [At([2])]
        union = AnyOf(schedules)
        schedules.append(EverySteps(1))
        assert looks(union, 5) == [2]

    def test_none_is_refused(self):
        with pytest.raises(ValueError, match=r"AnyOf: schedules .*at least one"):
            AnyOf([])


def follow(schedule: Schedule, losses: Sequence[float]) -> list[int]:
    """The steps that are looked at, each asked about when the loss of the one before has become known."""
    found = [0] if schedule(0) else []
    for step in range(1, len(losses) + 1):
        if schedule(step):
            found.append(step)
        schedule.hear(step, losses[step - 1])
    return found


def fall(widths: Sequence[int], seed: int, noise: float = 0.05, steps: int = 300) -> np.ndarray:
    """Losses of batches: one fall of each width (from 10% to 90% of its way), 120 steps from one to the next."""
    ways = [1 / (1 + np.exp(-4.4 * (np.arange(steps) - 100 - 120 * k) / width)) for k, width in enumerate(widths)]
    mean = 1.6 * (1 - sum(ways) / max(1, len(widths)))
    return mean + noise * np.random.default_rng(seed).normal(size=steps)


class TestLossMoved:
    SEEDS = range(20)

    @pytest.mark.parametrize("noise", [0.02, 0.05, 0.1, 0.3])
    def test_noise_alone_has_less_than_one_look_in_a_hundred_steps(self, noise):
        looks = [len(follow(LossMoved(), fall([], seed, noise, 100))) - 1 for seed in self.SEEDS]
        assert max(looks) <= 2
        assert np.mean(looks) < 1

    def test_single_bad_batches_have_none(self):
        losses = fall([], 0, 0.05)
        losses[::25] += 3
        assert len(follow(LossMoved(), losses)) <= 2
        assert len(follow(LossMoved(window=1), losses)) > 20, "they would be looked at without a window"

    @pytest.mark.parametrize(("width", "least"), [(20, 6), (30, 7), (100, 9)])
    def test_one_fall_has_most_of_its_looks_within_it(self, width, least):
        for seed in self.SEEDS:
            looks = np.array(follow(LossMoved(), fall([width], seed, steps=400)))
            within = np.sum(np.abs(looks - 100 - 4) <= width / 2)
            assert least <= within <= 1 / 0.05, (seed, looks)
            assert len(looks) <= 1.5 / 0.05

    def test_two_falls_have_looks_in_each_and_few_between(self):
        for seed in self.SEEDS:
            looks = np.array(follow(LossMoved(), fall([20, 20], seed)))
            for start in (100, 220):
                assert np.sum(np.abs(looks - start - 4) <= 20) >= 4, (seed, looks)
            assert np.sum((looks > 125) & (looks < 200)) <= 2, (seed, looks)

    def test_without_noise_it_is_looked_at_after_each_share_of_the_start(self):
        levels = [100.0] * 7 + [100 - 2.0 * k for k in range(1, 41)]
        assert follow(LossMoved(0.05, window=1), levels) == [0, 11, 14, 17, 20, 23, 26, 29, 32, 35, 38, 41, 44, 47]

    def test_a_rise_is_a_move_too(self):
        falling = fall([30], 1)
        assert follow(LossMoved(), 3.2 - falling) == follow(LossMoved(), falling)

    def test_a_smaller_share_has_more_looks(self):
        counts = [len(follow(LossMoved(share), fall([100], 0))) for share in (0.2, 0.05, 0.01)]
        assert counts[0] < counts[1] < counts[2]

    def test_no_look_before_the_start_is_known(self):
        steep = [100 - 10.0 * k for k in range(20)]
        assert follow(LossMoved(window=5), steep)[1] >= 7

    def test_a_loss_that_is_not_finite_is_left_out(self):
        losses = fall([30], 2)
        gaps = [*losses[:90], np.nan, np.inf, -np.inf, *losses[90:]]
        moved = [step if step <= 90 else step + 3 for step in follow(LossMoved(), losses)]
        assert [step for step in follow(LossMoved(), gaps) if step not in range(91, 94)] == moved
        diverged = follow(LossMoved(), [*losses[:100], *[np.nan] * 200])
        assert max(diverged) <= 101

    def test_a_loss_that_begins_at_nothing_counts_how_far_it_has_come(self):
        looks = follow(LossMoved(window=1), [0.0, *range(1, 400)])
        assert len(looks) < 120
        assert looks[-1] - looks[-2] > 10

    @pytest.mark.parametrize(("given", "words"), [((0,), "share.*got 0"), ((1.5,), "got 1.5"), ((0.1, 0), "window.*0")])
    def test_out_of_range(self, given, words):
        with pytest.raises(ValueError, match=f"LossMoved: .*{words}"):
            LossMoved(*given)

    def test_of_several_schedules_those_hear_that_follow(self):
        losses = fall([30], 3)
        both = LogSpaced(5) | LossMoved()
        assert follow(both, losses) == sorted({*looks(LogSpaced(5), 301), *follow(LossMoved(), losses)})
        assert follows_loss(both)
        assert follows_loss(AnyOf([At([1]), both]))
        assert not any(map(follows_loss, (LogSpaced(), At([1]) | EverySteps(2), len)))

    def test_looks_are_counted_beforehand_or_estimated(self):
        assert LogSpaced(20).count_looks(624) == len(looks(LogSpaced(20), 625))
        assert (At([2, 700]) | EverySteps(5)).count_looks(10) == 4
        assert LossMoved(0.1).count_looks(1000) == 21
        assert (At([2]) | LossMoved(0.1)).count_looks(1000) == 22
        assert LossMoved(0.1).count_looks(3) == 4


def test_a_schedule_of_one_s_own_needs_a_call():
    with pytest.raises(TypeError, match="abstract"):
        Schedule()


def test_epochs_are_steps_once_their_length_is_known():
    assert looks(Epochs(2).bind(3), 14) == [0, 6, 12]
    assert looks(AnyOf([Epochs(), At([1])]).bind(4), 9) == [0, 1, 4, 8]
    assert LogSpaced(5).bind(3).per_decade == 5


def test_epochs_need_to_know_how_long_an_epoch_is():
    with pytest.raises(RuntimeError, match="bind"):
        Epochs()(3)
    with pytest.raises(ValueError, match="a known number of steps; got inf"):
        Epochs().bind(float("inf"))
    with pytest.raises(ValueError, match="n is at least 1; got 0"):
        Epochs(0)


def test_schedules_are_joined_by_a_stroke():
    assert looks(At([2]) | EverySteps(5) | At([3]), 11) == [0, 2, 3, 5, 10]
