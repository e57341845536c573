"""Decide when each artifact is measured: all of them in turns, so that they share the machine's moods."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

TIMER_FLOOR_NS = 200_000
"""A shorter call is timed in batches: the clock and Python's loop cost some 100 ns, and jitter more."""

CLOCK_STEPS = 50
"""A sample is at least this many steps of the clock long: known to 2 %. A browser's step is 5 us to 1 ms."""

_FEWEST_SAMPLES = 5
_SLOW_CALL_NS = 100_000_000  # next to this, a cold cache costs nothing: no lead-in


@dataclass(frozen=True)
class Settings:
    """How long to measure each artifact: both ``samples`` and ``seconds``, within the limit.

    The defaults are for a build that someone waits for. TFLite's benchmark_model takes 50 runs and 1 s.
    """

    samples: int = 50
    seconds: float = 0.5
    limit_s: float = 10.0
    warmup_calls: int = 5
    warmup_s: float = 0.2
    rounds: int = 10
    lead_in_calls: int = 2
    ops_runs: int = 20
    energy_s: float = 2.0  # where the device has a power rail
    seed: int = 0
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Visit:
    """How one artifact is timed each time it is visited."""

    samples: int
    calls_per_sample: int
    lead_in_calls: int
    expected_s: float


def plan_visit(fastest_ns: int, settings: Settings, clock_step_ns: int = 1) -> Visit:
    """Split what one artifact needs over the rounds. ``fastest_ns`` is one call, as seen in the warm-up."""
    calls = ceil(max(TIMER_FLOOR_NS, CLOCK_STEPS * clock_step_ns) / fastest_ns)
    sample_s = fastest_ns * calls / 1e9
    wanted = max(settings.samples, ceil(settings.seconds / sample_s))
    affordable = max(_FEWEST_SAMPLES, int(settings.limit_s / sample_s))
    samples = ceil(min(wanted, affordable) / settings.rounds)
    lead_in = settings.lead_in_calls if fastest_ns < _SLOW_CALL_NS else 0
    return Visit(samples, calls, lead_in, samples * sample_s)


def visiting_order(names: Sequence[str], rounds: int, seed: int) -> list[str]:
    """Return every name once a round, each round in a new order that depends on the seed alone."""
    shuffle = random.Random(seed)
    return [name for _ in range(rounds) for name in shuffle.sample(list(names), len(names))]
