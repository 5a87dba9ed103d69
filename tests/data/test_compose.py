import numpy as np
import pytest

from snnkit.data import Bin, ChannelShift, Compose, TimeMask, generator, spike_events

EVENTS = spike_events(np.arange(20) / 100, np.arange(20) % 7)


def test_transforms_run_in_order_and_share_one_generator():
    both = Compose(ChannelShift(3, 7), Bin(7), TimeMask(5, 1.0))
    rng = generator(0, 0, 4)
    wanted = TimeMask(5, 1.0)(Bin(7)(ChannelShift(3, 7)(EVENTS, rng)), rng)
    assert (both(EVENTS, generator(0, 0, 4)) == wanted).all()


def test_a_list_is_the_same_as_its_members():
    assert Compose([Bin(7), abs]) == Compose(Bin(7), abs)


def test_compose_is_random_if_one_of_its_parts_is():
    assert Compose(Bin(7), Compose(TimeMask())).draws and not Compose(Bin(7), abs).draws


def test_a_random_transform_without_generator_is_an_error_not_a_draw():
    with pytest.raises(ValueError, match="TimeMask is random and needs a generator"):
        Compose(Bin(7), TimeMask())(EVENTS)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="takes callables, got 3"):
        Compose(abs, 3)
