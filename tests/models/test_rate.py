import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

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


def test_it_is_one_cycle_up_to_the_optimizer_s_own_rate():
    own = rates(RiseAndFall(optimizer(), 40), 39)
    cycle = OneCycleLR(optimizer(7.0), 0.4, 40, pct_start=0.5, cycle_momentum=False, div_factor=1000)
    assert own == pytest.approx(rates(cycle, 39))
    assert max(own) == own[19] == pytest.approx(0.4)
    assert own[0] == pytest.approx(0.0004)


def test_a_rate_of_zero_stays_zero():
    assert set(rates(RiseAndFall(optimizer(0.0), 10), 9)) == {0.0}


def test_it_rises_for_the_share_it_is_given():
    own = rates(RiseAndFall(optimizer(), 100, rise=0.2, start=0.5), 99)
    assert own.index(max(own)) == 19
    assert own[0] == pytest.approx(0.2)


@pytest.mark.parametrize(("arguments", "words"), [({"rise": 1.0}, "rise"), ({"start": 0.0}, "start"), ({}, "steps")])
def test_what_makes_no_cycle_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        RiseAndFall(optimizer(), **arguments)
