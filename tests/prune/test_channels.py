import numpy as np

from edgekit.prune.channels.coupling import Channels


def test_coupled_channels_share_the_smallest_id() -> None:
    channels = Channels()
    a, b, c = channels.fresh(3), channels.fresh(3), channels.fresh(3)
    channels.couple(b, c)
    channels.couple(c, a)
    assert [channels.find(int(i)) for i in np.concatenate([a, b, c])] == [0, 1, 2] * 3


def test_freezing_one_channel_freezes_all_that_are_coupled_to_it() -> None:
    channels = Channels()
    a, b = channels.fresh(2), channels.fresh(2)
    channels.freeze(b[:1], "is an output")
    channels.couple(a, b)
    assert channels.frozen_because(int(a[0])) == "is an output"
    assert channels.frozen_because(int(a[1])) is None


def test_the_first_reason_is_reported() -> None:
    channels = Channels()
    a = channels.fresh(1)
    channels.freeze(a, "first")
    channels.freeze(a, "second")
    assert channels.frozen_because(0) == "first"
