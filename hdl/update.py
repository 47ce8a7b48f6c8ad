# amaranth: UnusedElaboratable=no
"""Updates of weights: the pipeline from a gradient to a weight."""

from math import ceil

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.update import (
    MAX_RATE_BITS,
    NOISE_BITS,
    UpdateRounding,
    UpdateSpec,
)
from gategrad.hdl.adder_tree import Part, add_up, additions, digits, stages
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder, saturation
from gategrad.hdl.pipe import Delay, Registers, saturate
from gategrad.hdl.streams import shape_of
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Update(Component):
    """``lanes`` weights a cycle: the update of :mod:`gategrad.golden.update`::

        v ── x mu ── + ── saturate ─┬────────────────┐
                     │              └ x mu ── + ─── (x) rate ── + ── + ── >> shift ── w - q ── o_w
        g ── clip ───┴────────────────────────┘                 │    │                  │
        w ── x decay ───────────────────────────────────────────┴ ── │ ─────────────────┘
        noise ───────────────────────────────────────────────────────┘

    There is no flow control: operands are taken in every cycle with ``enable``, and their results
    stand at the outputs ``latency`` such cycles later; while it is low every register holds.
    Operands should come from registers; the results do.

    Ports, each of ``lanes`` elements: ``w``, ``g``; ``v`` with momentum; ``noise`` of 16 bits with
    stochastic rounding; ``decays`` of 1 bit with decay; out of it ``o_w``, ``o_v``, and the flags
    ``saturated`` (the weight was held to an end of its format) and ``underflow`` (the update was
    not 0, and yet the weight stayed). With ``rate_bits`` the port ``rate`` of as many bits is in
    the place of the specification's rate, for all lanes; it stands still while operands of one
    update are on their way. So does ``hold``: with it ``o_w`` is ``w``, and no flag is set.

    Multiplications by constants are additions of signed digits, and that by ``rate`` is additions
    too: no multiplier is taken. A power of two, as rate, decay and momentum, costs no adder but the
    one that it is added by. Latency: 2 cycles, 1 to round, 1 to clip, 2 for momentum, 1 for
    Nesterov's, and for each product the levels of its tree.

    Placed alone, 8 lanes, weights of 16 bits, gradients of 32, shift 20, rate a power of two if not
    said otherwise (ECP5: a 25F, grade 6):

    ============================== ======= ============ ======= ============= =======
    rounding                       latency ECP5 LUTs    MHz     UP5K cells    MHz
    ============================== ======= ============ ======= ============= =======
    nearest                        3       583          254     764           70
    stochastic                     3       735          219     883           69
    discarded                      3       663          251     835           72
    stochastic, momentum 7/8       6       1,756        209     3,919         50
    stochastic, rate 205, decay 3  6       2,759        192
    stochastic, rate_bits 8        6       5,009        156
    ============================== ======= ============ ======= ============= =======

    Raises ``ValueError`` for lanes below 1, rate_bits beyond 16 and sums beyond 62 bits.
    """

    def __init__(
        self,
        spec: UpdateSpec,
        lanes: int,
        technology: Technology = PORTABLE,
        rate_bits: int = 0,
    ):
        if lanes < 1:
            raise ValueError(f"lanes must be 1 or more, not {lanes}")
        if not 0 <= rate_bits <= MAX_RATE_BITS:
            raise ValueError(f"rate_bits must be 0 to {MAX_RATE_BITS}, not {rate_bits}")
        rate = (1 << rate_bits) - 1 if rate_bits else spec.rate
        spec.check_width(rate)
        self.spec, self.lanes, self.technology, self.rate_bits = spec, lanes, technology, rate_bits
        low, high = spec.total(rate)
        self._total = Format.for_range(low, high, 0).width
        self._low, self._high = low >> spec.shift, -(-high >> spec.shift) + 1

    def ports(self):
        spec, lanes = self.spec, self.lanes

        def array(shape):
            return data.ArrayLayout(shape, lanes)

        weight, flag = array(shape_of(spec.weight)), array(1)
        ports = {
            "enable": In(1, init=1),
            "hold": In(1),
            "w": In(weight),
            "g": In(array(shape_of(spec.gradient))),
            "o_w": Out(weight),
            "saturated": Out(flag),
            "underflow": Out(flag),
        }
        if spec.velocity is not None:
            velocity = array(shape_of(spec.velocity))
            ports |= {"v": In(velocity), "o_v": Out(velocity)}
        if spec.rounding is UpdateRounding.STOCHASTIC:
            ports["noise"] = In(array(NOISE_BITS))
        if spec.decay:
            ports["decays"] = In(flag)
        if self.rate_bits:
            ports["rate"] = In(self.rate_bits)
        return ports

    @property
    def latency(self) -> int:
        """Enabled cycles from operands to results."""
        spec = self.spec
        cycles = int(spec.clip is not None)
        if spec.momentum is not None:
            product = stages(additions(spec.momentum[:1]))
            cycles = max(cycles, product) + 2
            cycles += (product + 1) * spec.nesterov
        return cycles + stages(self._parts) + (spec.noise_bits > 0) + 2

    @property
    def _parts(self) -> int:
        """What is added up to ``t``."""
        return (self.rate_bits or additions([self.spec.rate])) + additions([self.spec.decay])

    def elaborate(self, platform):
        m = Module()
        pipe = Registers(m, self.enable)
        for lane in range(self.lanes):
            self._lane(pipe, lane)
        return m

    def _lane(self, pipe: Registers, lane: int) -> None:
        spec = self.spec
        bits = spec.weight.width
        w, n = Delay(pipe, self.w[lane]), self._step(pipe, lane)
        t, time = self._sum(pipe, w, n, lane)
        q, nonzero = t, Const(0)
        if spec.noise_bits:
            rounded = self._rounded(t, Delay(pipe, self._noise(lane)).at(time))
            (q, nonzero), time = pipe.register([rounded, t != 0], self.hold), time + 1
        else:
            q = Mux(self.hold, 0, q).as_signed()
        # More than a weight and a bit can hold takes any weight beyond an end.
        near, far = q, Const(0)
        if len(q) > bits + 1:
            near = q[: bits + 1].as_signed()
            far = (q[bits:-1] ^ q[-1].replicate(len(q) - bits - 1)).any()
        moved, far, up, lost = pipe.register([w.at(time) - near, far, q[-1], nonzero & (q == 0)])
        negative = Mux(far, ~up, moved[-1])
        over = far | (moved[bits - 1 : -1] ^ moved[-1].replicate(len(moved) - bits)).any()
        held = Mux(over, Cat((~negative).replicate(bits - 1), negative), moved[:bits])
        results = pipe.register([held, over, lost])
        outputs = self.o_w[lane], self.saturated[lane], self.underflow[lane]
        pipe.m.d.comb += [o.eq(result) for o, result in zip(outputs, results, strict=True)]

    def _step(self, pipe: Registers, lane: int) -> Delay:
        """What the weight moves by but for the rate: ``n``, from gradient and velocity."""
        spec = self.spec
        g = Delay(pipe, self.g[lane])
        if spec.clip is not None:
            clipped = Format.for_range(*spec.ends, 0)
            ends = spec.gradient.min, spec.gradient.max
            # One bit, -1 or 0, is the sign.
            held = saturate(g.at(0), clipped, *ends) if spec.clip else g.at(0)[-1].replicate(2)
            g = Delay(pipe, pipe.register([held.as_signed()])[0], 1)
        if spec.momentum is None or spec.velocity is None:
            return g
        v = self._slowed(pipe, Delay(pipe, self.v[lane]), g)
        ends = spec.velocity.min + spec.ends[0], spec.velocity.max + spec.ends[1]
        (held,) = pipe.register([saturate(v.at(v.time), spec.velocity, *ends)])
        v = Delay(pipe, held, v.time + 1)
        pipe.m.d.comb += self.o_v[lane].eq(v.at(self.latency))
        return self._slowed(pipe, v, g) if spec.nesterov else v

    def _slowed(self, pipe: Registers, v: Delay, g: Delay) -> Delay:
        """``round(v * mu) + g``: half a unit is a one below the gradient's last bit."""
        assert self.spec.momentum is not None
        multiplier, shift = self.spec.momentum
        time = max(v.time + stages(additions([multiplier])), g.time)
        start = time - stages(additions([multiplier]))
        (product,) = add_up(pipe, [digits(v.at(start), multiplier)])
        total = (product >> shift - 1) + Cat(1, g.at(time)).as_signed()
        return Delay(pipe, pipe.register([total >> 1])[0], time + 1)

    def _sum(self, pipe: Registers, w: Delay, n: Delay, lane: int) -> tuple[Value, int]:
        """``t`` and its time."""
        spec, step = self.spec, n.at(n.time)
        parts: list[Part] = digits(step, spec.rate)
        if self.rate_bits:
            parts = [(k, 1, Mux(self.rate[k], step, 0)) for k in range(self.rate_bits)]
        if spec.decay:
            decays = Delay(pipe, self.decays[lane]).at(n.time)
            parts += digits(Mux(decays, w.at(n.time), 0), spec.decay)
        (total,) = add_up(pipe, [parts], self._total)
        return _sized(total, self._total), n.time + stages(len(parts))

    def _noise(self, lane: int) -> Value:
        """The upper bits of the noise, as many as are added."""
        if self.spec.rounding is not UpdateRounding.STOCHASTIC:
            return Const(1, 1)
        return self.noise[lane][NOISE_BITS - self.spec.noise_bits :]

    def _rounded(self, t: Value, noise: Value) -> Value:
        """``q``: what the rounding adds reaches no lower than its own bits."""
        spec, bits = self.spec, self.spec.noise_bits
        discards = spec.rounding is UpdateRounding.DISCARDED
        added = Cat(t[: bits - 1], ~t[bits - 1]) if discards else noise
        width = Format.for_range(self._low, self._high, 0).width
        return _sized((t >> spec.shift - bits) + added >> bits, width)

    def cost(self) -> Resources:
        """Estimate: the adders, and the operands on their way beside them."""
        spec, technology = self.spec, self.technology
        weight, gradient = spec.weight.width, spec.gradient.width
        kept = max(2, self._total - spec.shift)
        luts = (self._parts - 1) * adder(self._total, technology) + ceil(self._total / 3)
        luts += adder(kept + spec.noise_bits, technology) + adder(weight + 2, technology)
        luts += saturation(weight, kept, technology) + ceil(kept / 2)
        ffs = (self.latency - 1) * weight + self._total * (self._parts - 1) + kept + weight + 8
        if spec.rounding is UpdateRounding.STOCHASTIC:
            ffs += spec.noise_bits * (self.latency - 3)
        luts, summed = luts + self.rate_bits * gradient, 0
        if spec.clip is not None:
            luts, ffs = luts + ceil(1.7 * spec.clip), ffs + spec.clip
        if spec.momentum is not None and spec.velocity is not None:
            velocity, parts = spec.velocity.width, additions(spec.momentum[:1])
            adders = parts * (1 + spec.nesterov)
            summed = (adders + 1) * velocity
            luts += adders * adder(velocity, technology)
            luts += saturation(velocity, 2, technology)
            ffs += (adders + self.latency - 2) * velocity + gradient * (self.latency - 3)
        if technology.family == "ice40":  # what waits has no adder in its cell
            luts += ffs - self._total * (self._parts - 1) - kept - weight - summed
        return Resources(luts=luts, ffs=ffs) * self.lanes


def _sized(value: Value, width: int) -> Value:
    """A signed value known to fit ``width`` bits."""
    return value[:width].as_signed() if len(value) > width else value
