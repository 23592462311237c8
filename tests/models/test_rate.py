import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from lightning_emerge.models.rate import RiseAndFall


def optimizer(rate: float = 0.4) -> SGD:
    return SGD([torch.nn.Parameter(torch.ones(2))], lr=rate, momentum=0.9)


def rates(scheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_it_rises_by_one_factor_to_the_optimizer_s_own_rate():
    own = rates(RiseAndFall(optimizer(), 40, rise=0.25, start=1e-2), 11)
    assert own == pytest.approx([0.4 * 10 ** (-0.2 * (10 - step)) for step in range(11)])


def test_it_falls_as_a_cosine_does_and_stays_at_zero():
    own = rates(RiseAndFall(optimizer(), 20, rise=0.0), 23)
    assert own[:20] == pytest.approx(rates(CosineAnnealingLR(optimizer(), 20), 20))
    assert own[20:] == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_rate_of_zero_stays_zero():
    assert set(rates(RiseAndFall(optimizer(0.0), 10), 10)) == {0.0}


def test_a_run_that_resumes_has_the_rates_of_one_that_was_not_stopped():
    whole = rates(RiseAndFall(optimizer(), 12), 12)
    first = RiseAndFall(optimizer(), 12)
    rates(first, 5)
    second = RiseAndFall(optimizer(), 12)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert rates(second, 7) == pytest.approx(whole[5:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rise": 1.1}, "rise"),
        ({"rise": float("nan")}, "rise"),
        ({"start": 0.0}, "start"),
        ({"total_steps": None}, "total_steps"),
        ({"total_steps": 0}, "total_steps"),
    ],
)
def test_what_makes_no_rise_and_fall_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        RiseAndFall(optimizer(), **{"total_steps": 10, **arguments})
