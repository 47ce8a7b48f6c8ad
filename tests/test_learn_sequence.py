"""Steps of the jobs of a layer, against loops over windows, filters, taps and channels."""

import random

import pytest
from learn_support import conv_spec, dense_spec
from logic_support import observe

from gategrad.hdl.learn_sequence import Job, Steps
from gategrad.hdl.tiles import Tiles

LAYERS = {
    "dense": dense_spec(5, 3),
    "bias in a free lane": dense_spec(3, 4),
    "plain": conv_spec((3, 3), 3, (2, 2), 3),
    "padding": conv_spec((3, 2), 1, (2, 3), 2, stride=(2, 1), padding=(1, 0, 1, 2)),
    "dilation": conv_spec((4, 3), 2, (2, 2), 3, stride=(1, 2), padding=(1, 1, 0, 1),
                          dilation=(2, 1)),
    "groups": conv_spec((2, 3), 4, (1, 2), 6, groups=2),
}  # fmt: skip
NOISE = (49471, 37345)


def forward(t: Tiles, gradient: bool):
    """What each step of forward or gradient says; None for what does not matter."""
    w, steps = t.window, []
    for k in range(w.pixels):
        y, x = divmod(k, w.out_width)
        tile, noise = 0, None
        for group in range(t.groups):
            for block in range(t.filter_blocks):
                places = [
                    (ky, kx, cb)
                    for ky in range(w.kernel[0])
                    for kx in range(w.kernel[1])
                    for cb in range(t.channel_blocks)
                ]
                delta = (k * t.groups + group) * t.filter_blocks + block
                row = (group * t.filters + block * t.pe) * NOISE[0] % 2**16
                for index, (ky, kx, cb) in enumerate(places):
                    at_y = y * w.stride[0] + ky * w.dilation[0] - w.padding[0]
                    at_x = x * w.stride[1] + kx * w.dilation[1] - w.padding[1]
                    inside = 0 <= at_y < w.height and 0 <= at_x < w.width
                    word = ((at_y * w.width + at_x) * t.groups + group) * t.channel_blocks + cb
                    last = not t.own_bias and index == len(places) - 1
                    column = (ky * w.kernel[1] + kx) * t.channels + cb * t.simd
                    noise = (row, column * NOISE[1] % 2**16)
                    steps.append((tile, word if inside else None, delta, inside, last, last, noise))
                    tile += 1
                if t.own_bias:
                    noise = (row, (t.columns - 1) * NOISE[1] % 2**16)
                    steps.append((tile, None, delta, None, True, True, noise))
                    tile += 1
    job = Job.GRADIENT if gradient else Job.FORWARD
    each = len(steps) // w.pixels
    return [
        {
            "job": job, "address": tile, "x": word, "delta": delta, "inside": inside,
            "last": last, "bias": bias, "row": noise[0], "column": noise[1],
            "first_pixel": k < each, "last_pixel": k >= len(steps) - each,
        }
        for k, (tile, word, delta, inside, last, bias, noise) in enumerate(steps)
    ]  # fmt: skip


def backward(t: Tiles):
    """Of each pixel and block of channels: all tiles that may have seen it."""
    w, steps = t.window, []
    for y in range(w.height):
        for x in range(w.width):
            for group in range(t.groups):
                for cb in range(t.channel_blocks):
                    sums = []
                    for ky in range(w.kernel[0]):
                        for kx in range(w.kernel[1]):
                            oy, ox = (
                                divmod(at + before - tap * apart, stride)
                                for at, before, tap, apart, stride in zip(
                                    (y, x), w.padding[:2], (ky, kx), w.dilation, w.stride,
                                    strict=True,
                                )
                            )  # fmt: skip
                            inside = oy[1] == ox[1] == 0
                            inside &= 0 <= oy[0] < w.out_height and 0 <= ox[0] < w.out_width
                            pixel = oy[0] * w.out_width + ox[0]
                            for fb in range(t.filter_blocks):
                                word = (pixel * t.groups + group) * t.filter_blocks + fb
                                tap = (ky * w.kernel[1] + kx) * t.channel_blocks + cb
                                tile = (group * t.filter_blocks + fb) * t.blocks + tap
                                sums.append({
                                    "job": Job.DELTA, "address": tile, "inside": inside,
                                    "delta": word if inside else None, "last": False, "bias": 0,
                                })  # fmt: skip
                    sums[-1]["last"] = True
                    steps += sums
    return steps


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("pe", "simd"), [(1, 1), (2, 2), (4, 2)])
def test_steps(name, pe, simd):
    """Of all three jobs twice, with pauses anywhere."""
    tiles, source = Tiles(LAYERS[name], pe, simd), random.Random(name)
    jobs = [Job.FORWARD, Job.DELTA, Job.GRADIENT, Job.GRADIENT, Job.DELTA, Job.FORWARD]
    lists = [backward(tiles) if job is Job.DELTA else forward(tiles, job is Job.GRADIENT)
             for job in jobs]  # fmt: skip
    stimulus, due = [], []
    for job, steps in zip(jobs, lists, strict=True):
        for step in steps:
            for _ in range(source.choice((0, 0, 0, 1, 2))):
                stimulus.append({"job": source.choice((job, Job.IDLE)), "enable": 0})
                due.append(None)
            stimulus.append({"job": job, "enable": 1})
            due.append(step | {"end": step is steps[-1]})
    made = {}

    def build(m, job, enable):
        steps = Steps(m, tiles, job, noise=NOISE)
        m.d.comb += steps.enable.eq(enable)
        made["steps"] = steps
        names = (
            "valid job address x delta inside bias last first_pixel last_pixel row column end "
            "last_of_sum"
        )
        return {name: getattr(steps, name) for name in names.split()}

    stimulus += [{"enable": 0}] * 3
    seen = observe(build, {"job": 2, "enable": 1}, stimulus)
    latency = made["steps"].latency
    assert latency == (1 if name in ("dense", "bias in a free lane") else 3)
    for cycle, step in enumerate(due):
        found = seen[cycle + latency]
        assert found["valid"] == (step is not None)
        if step is None:
            continue
        assert seen[cycle]["end"] == step["end"] and seen[cycle]["last_of_sum"] == step["last"]
        for field, value in step.items():
            if value is not None and field != "end":
                assert found[field] == value, (field, cycle, step)


def test_forward_only():
    """Without deltas that go back there is nothing of theirs."""
    tiles = Tiles(LAYERS["padding"], 2, 1)
    steps = forward(tiles, False)

    def build(m, job, enable):
        made = Steps(m, tiles, job, delta=False)
        m.d.comb += made.enable.eq(enable)
        return {"address": made.address, "inside": made.inside, "x": made.x}

    stimulus = [{"job": Job.FORWARD, "enable": 1}] * (len(steps) + 3)
    seen = observe(build, {"job": 2, "enable": 1}, stimulus)[3:]
    for step, found in zip(steps, seen, strict=True):
        assert all(step[name] in (None, value) for name, value in found.items())
