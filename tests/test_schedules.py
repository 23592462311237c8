import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.schedules import AnyOf, At, Epochs, EverySteps, LogSpaced, Schedule

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
