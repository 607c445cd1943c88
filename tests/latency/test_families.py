"""Families: few measured members price all others, steps and teeth included."""

from dataclasses import replace

import numpy as np
import pytest

from hwprune.backend import Kernel, Layouts
from hwprune.latency.families import Families
from hwprune.latency.sweep_fit import fit_teeth
from hwprune.latency.sweeps import conv, macs, sweep, sweepable, teeth_of, worth_sweeping
from hwprune.latency.teeth import Teeth

PLAIN = Layouts()


def family(kernels: list[Kernel]):
    families = Families()
    families.add("part", kernels)
    (found,) = families
    return found


def grid(precision: str, counts) -> list[Kernel]:
    return [conv(precision, i, o, 3, PLAIN) for i in counts for o in counts]


def channels(kernel: Kernel) -> tuple[int, int]:
    return kernel.inputs[0][1], kernel.output[1]


def bilinear(kernel: Kernel) -> float:
    i, o = channels(kernel)
    return 900.0 + 3 * i + 5 * o + 0.7 * i * o


def test_few_rows_price_a_bilinear_family():
    members = grid("int8", range(4, 68, 4))
    found = family(members)
    chosen = found.select()
    assert len(chosen) == 16
    found.load({k: bilinear(k) for k in chosen}, {})
    ns, spread = found.predict(members)
    exact = np.array([bilinear(k) for k in members])
    assert np.abs(ns / exact - 1).max() < 0.02
    assert np.all(np.abs(ns / exact - 1) < 3 * spread)


def test_members_need_not_be_every_combination_of_counts():
    rng = np.random.default_rng(0)
    pairs = {(int(i), int(o)) for i, o in rng.integers(4, 68, (60, 2))} | {(4, 4), (67, 67)}
    members = [conv("int8", i, o, 3, PLAIN) for i, o in sorted(pairs)]
    found = family(members)
    chosen = found.select()
    assert 9 <= len(chosen) <= 16
    assert {channels(k) for k in chosen} >= {(4, 4), (67, 67)}
    found.load({k: bilinear(k) for k in chosen}, {})
    errors = np.abs(found.predict(members)[0] / [bilinear(k) for k in members] - 1)
    assert errors.max() < 0.03
    diagonal = family([conv("int8", c, c, 3, PLAIN) for c in range(4, 68, 4)])
    assert [channels(k)[0] for k in diagonal.select()] == [4, 8, 12, 20, 28, 44, 64]


def test_members_of_no_size_are_members_like_any_others():
    members = [Kernel("Relu", "fp32", ((1, n, 4),), (1, n, 4)) for n in range(40)]
    chosen = family(members).select()
    assert len(chosen) == 8
    assert {members[0], members[-1]} <= set(chosen)


def staircase(kernel: Kernel) -> float:
    i, o = channels(kernel)
    return 40.0 * i * -(-o // 16)


def saw(kernel: Kernel) -> float:
    i, o = channels(kernel)
    return i * (o + (11.0 if o % 8 else 0.0)) + 100.0


def off(kernel: Kernel) -> float:
    i, o = channels(kernel)
    return (200.0 + i * o) * (1.5 if i % 4 or o % 4 else 1.0)


@pytest.mark.parametrize("time", [staircase, saw, off])
def test_teeth_found_in_sweeps_hold_for_other_members(time):
    members = grid("int8", range(2, 97, 3))
    found = family(members)
    sweeps = {c: sweep(c, PLAIN) for c in sweepable(found.classes)}
    assert len(sweeps) == 2
    teeth = teeth_of(sweeps, {k: time(k) for kernels in sweeps.values() for k in kernels.values()})
    chosen = dict.fromkeys(found.select(teeth))
    found.load({k: time(k) for k in chosen}, teeth)
    rest = [k for k in members if k not in chosen]
    errors = np.abs(found.predict(rest)[0] / [time(k) for k in rest] - 1)
    assert np.percentile(errors, 95) < 0.06
    assert np.median(errors) < 0.02
    found.load({k: time(k) for k in found.select()}, {})
    without = np.abs(found.predict(rest)[0] / [time(k) for k in rest] - 1)
    assert np.percentile(without, 95) > 2 * np.percentile(errors, 95)


@pytest.mark.parametrize(
    ("cost", "period"),
    [(lambda c: -(-c // 8) * 8.0, 8), (lambda c: 3.0 + c * (1.5 if c % 4 else 1.0), 4),
     (lambda c: 10.0 + c, 1), (lambda c: 5.0, 1)],
)  # fmt: skip
def test_the_period_is_found_in_noise(cost, period):
    rng = np.random.default_rng(0)
    times = {c: 1000 * cost(c) * (1 + 0.01 * rng.standard_normal()) for c in range(1, 65)}
    teeth = fit_teeth(times)
    assert teeth.period == period
    counts = np.arange(1.0, 65.0)
    assert np.all(teeth.effective(counts, teeth.slow(counts)) >= counts / 2)


def test_a_fast_and_a_slow_path_are_told_apart():
    rng = np.random.default_rng(1)

    def cost(c: int) -> float:
        fast, slow = 3.3 + 9.5 * -(-c // 16), 13.9 + 4.8 * -(-c // 8)
        return (slow if c % 8 else fast) * (1 + 0.01 * rng.standard_normal())

    teeth = fit_teeth({c: 1000 * cost(c) for c in (*range(1, 65), *range(68, 129, 4))})
    assert (teeth.period, teeth.step, len(teeth.slow_heights)) == (16, 8, 8)
    assert 1.05 < teeth.slowdown < 2.5
    counts = np.array([8.0, 9.0, 16.0, 17.0, 24.0])
    assert teeth.slow(counts).tolist() == [False, True, False, True, False]
    found = teeth.effective(counts, teeth.slow(counts))
    assert found[::2].tolist() == [16, 16, 32]
    block = np.arange(17.0, 24.0)  # off the steps all of them cost one block more than 9 to 15
    raised = teeth.effective(block, teeth.slow(block)) - teeth.effective(block - 8, block > 0)
    assert raised == pytest.approx(np.full(7, 8.0))
    assert np.ptp(teeth.effective(block, block > 0)) < 1.0


def leaping(kernel: Kernel) -> float:
    """Sixteen outputs at a time, four such blocks in one pass over the inputs."""
    i, o = channels(kernel)
    passes, blocks = divmod(-(-o // 16) - 1, 4)
    return 400.0 + i * (18.0 * (passes + 1) + 10.0 * (4 * passes + blocks))


def beginning_late(kernel: Kernel) -> float:
    """The same in multiples of four from sixteen on; all other counts are slower."""
    o = channels(kernel)[1]
    return leaping(kernel) if o % 4 == 0 and o >= 16 else 2400.0 + 14.0 * channels(kernel)[0] * o


@pytest.mark.parametrize(("time", "step", "least"), [(leaping, 1, 0), (beginning_late, 4, 16)])
def test_stairs_leap_where_a_pass_over_the_inputs_begins(time, step, least):
    rng = np.random.default_rng(2)
    name = ("Conv", "int8", "", "dense", "out")
    kernels = sweep(name, PLAIN)
    times = {n: time(k) * (1 + 0.005 * rng.standard_normal()) for n, k in kernels.items()}
    teeth = fit_teeth(times)
    assert (teeth.period, teeth.stair, teeth.step, teeth.least) == (64, 16, step, least)
    assert teeth.grain == 16
    members = [conv("int8", i, o, 3, PLAIN) for i in (16, 24, 40, 64) for o in range(8, 129, 4)]
    found = family(members)
    chosen = found.select({name: teeth})
    assert len(chosen) < len(members) / 3
    found.load({k: time(k) for k in chosen}, {name: teeth})
    errors = np.abs(found.predict(members)[0] / [time(k) for k in members] - 1)
    assert np.percentile(errors, 95) < 0.05
    even = replace(teeth, period=16, heights=(0.0, *[16.0] * 15), least=0)
    found.load({k: time(k) for k in found.select({name: even})}, {name: even})
    without = np.abs(found.predict(members)[0] / [time(k) for k in members] - 1)
    assert np.percentile(without, 95) > 2 * np.percentile(errors, 95)


def test_pointwise_convolutions_that_nobody_swept_have_the_steps_of_others():
    members = [conv("int8", i, o, 1, PLAIN) for i in range(3, 67, 3) for o in range(3, 67, 3)]
    found = family(members)
    assert {c[3] for c in found.classes} == {"pointwise"}
    dense = {
        ("Conv", "int8", "", "dense", role): Teeth(4, (0.0, 4.0, 4.0, 4.0), 4, 4)
        for role in ("in", "out")
    }
    found.load({k: off(k) for k in found.select(dense)}, dense)
    errors = np.abs(found.predict(members)[0] / [off(k) for k in members] - 1)
    assert np.percentile(errors, 95) < 0.03
    assert found.periods() == {"in": 4, "out": 4}


@pytest.mark.parametrize("height", [0.5, 1.0, 2.0])
def test_teeth_are_as_high_as_the_rows_of_a_family_say(height):
    """What a rest costs does not grow with the other counts of the kernel, the slope does."""
    members = [
        Kernel("Conv", "int8", ((1, n, 28, 28), (n, 1, 3, 3)), (1, n, 28, 28), ())
        for n in range(4, 97)
    ]
    teeth = Teeth(8, (0.0, *(10.0 + 10.0 * r for r in range(1, 8))))

    def time(kernel: Kernel) -> float:
        count = kernel.output[1]
        tooth = 1000.0 + 1000.0 * (count % 8) if count % 8 else 0.0
        return 5000.0 + 100.0 / height * (count - count % 8) + tooth

    found = family(members)
    (name,) = found.classes
    found.load({k: time(k) for k in found.select({name: teeth})}, {name: teeth})
    errors = np.abs(found.predict(members)[0] / [time(k) for k in members] - 1)
    assert errors.max() < 0.05


def test_uncertainty_grows_away_from_what_was_measured():
    members = grid("int8", (8, 16, 512))
    found = family(members)
    found.load({k: bilinear(k) * (1.1 if k.output[1] == 16 else 1.0) for k in members[:5]}, {})
    spread = found.predict([members[0], members[-1]])[1]
    assert spread[0] < spread[1]


def test_families_that_look_the_same_are_one():
    families = Families()
    families.add("first", grid("int8", (8, 16)))
    families.add("second", grid("int8", (8, 16)))
    families.add("third", grid("fp32", (8, 16)))
    assert len(list(families)) == 2
    kernel = conv("int8", 11, 13, 3, PLAIN)
    assert families.of("first", kernel) is families.of("second", kernel)
    assert families.of("fourth", kernel) is None


def test_only_what_does_the_work_is_worth_sweeping():
    found = Families()
    wide = [conv("int8", c, 64, 3, PLAIN, size=32) for c in (16, 32, 64)]
    found.add("body", wide)
    head = [Kernel("Gemm", "nbits-4/32", ((1, c), (c, 10), (10,)), (1, 10)) for c in (16, 32, 64)]
    found.add("head", head)
    ops = {(name[0], name[1]) for name in worth_sweeping(found)}
    assert ops == {("Conv", "int8")}
    assert macs(wide[0]) == 32 * 32 * 64 * 16 * 9
    assert macs(head[0]) == 160
