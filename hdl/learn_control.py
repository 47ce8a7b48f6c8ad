# amaranth: UnusedElaboratable=no
"""Which job a trainable layer does next."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.hdl.component import Component
from gategrad.hdl.learn_sequence import Job
from gategrad.hdl.loops import delayed
from gategrad.hdl.technology import Resources

#: Cycles between jobs.
PAUSE = 2


class Control(Component):
    """Chooses jobs for samples that are there as a whole: what goes back first, its delta before
    its gradient, then forward, in the order in which samples came.

    Ports: ``go`` admits a sample (with ``learn``, ``first`` and ``last`` of its batch);
    ``x_filled``, ``d_filled``: its inputs or deltas have come; ``job`` and ``running``; ``end``:
    this cycle makes the job's last step; ``forwarded``, ``finished``: the oldest sample has been
    through forward, or everything; ``release``: ``linger`` cycles after that, when its last words
    have been read; ``done``: as finished, but where weights are updated ``settles`` cycles later,
    and no job begins before; ``is_first``, ``is_last``, ``is_learn``: of the sample that goes back;
    ``forward_learns``: of the one that goes forward next, or does.

    ``pages``: of inputs; ``delta``, ``gradient``: whether there are such jobs; without them samples
    have finished with forward. Between the last step of a job and the first of the next are
    ``PAUSE`` cycles.
    """

    def __init__(
        self,
        *,
        in_flight: int,
        pages: int,
        delta: bool,
        gradient: bool,
        settles: int,
        linger: int,
    ):
        self.in_flight, self.pages, self.delta, self.gradient = in_flight, pages, delta, gradient
        self.settles, self.linger = settles, linger

    def ports(self):
        ins = "go learn first last x_filled d_filled end"
        outs = (
            "running forwarded finished release done idle is_first is_last is_learn forward_learns"
        )
        ports = {name: In(1) for name in ins.split()}
        return ports | {name: Out(1) for name in outs.split()} | {"job": Out(2)}

    def cost(self) -> Resources:
        """Counters and the queue of admitted samples."""
        bits = 3 * self.in_flight + 30
        return Resources(luts=2 * bits, ffs=bits + self.linger)

    def elaborate(self, platform):
        m = Module()
        room = range(max(self.in_flight, self.pages) + 1)
        admitted, inputs, deltas = (Signal(room, name=n) for n in ("admitted", "inputs", "deltas"))
        job, end = self.job, self.end
        back = self.delta or self.gradient
        m.d.sync += [
            admitted.eq(admitted + self.go - self.forwarded),
            inputs.eq(inputs + self.x_filled - self.forwarded),
            deltas.eq(deltas + self.d_filled - self.finished if back else 0),
        ]
        learn = self._queue(m, admitted)
        deltas_done, updating = Signal(), Signal()
        settling = Signal(range(self.settles + 2))
        # What an end brings about begins a cycle later, so that no path goes from the steps through
        # the counters of samples to the next job.
        pause = Signal()
        gradient_ends = end & (job == Job.GRADIENT)
        forward_ends = end & (job == Job.FORWARD)
        m.d.sync += [
            pause.eq(end),
            self.forwarded.eq(forward_ends),
            self.finished.eq(gradient_ends if back else forward_ends),
            updating.eq(gradient_ends & self.is_last),
            self.idle.eq(
                ~self.running & ~pause & (settling == 0) & (inputs == 0) & (deltas == 0)
            ),
        ]
        with m.If(end):
            m.d.sync += job.eq(Job.IDLE)
            with m.If(job == Job.DELTA):
                m.d.sync += deltas_done.eq(1)
        with m.Elif(self.running | pause):
            pass
        with m.Elif(settling != 0):
            m.d.sync += settling.eq(settling - 1)
        with m.Elif(deltas != 0):
            with m.If(~deltas_done if self.delta else 0):
                m.d.sync += job.eq(Job.DELTA)
            with m.Elif(learn if self.gradient else 0):
                m.d.sync += job.eq(Job.GRADIENT)
            with m.Else():  # nothing is left to do for the sample
                m.d.sync += [self.finished.eq(1), pause.eq(1)]
        with m.Elif((inputs != 0) & (admitted != 0)):
            m.d.sync += job.eq(Job.FORWARD)
        with m.If(self.finished):
            m.d.sync += deltas_done.eq(0)
        with m.If(updating):
            m.d.sync += settling.eq(self.settles)
        m.d.comb += [
            self.running.eq(job != Job.IDLE),
            self.done.eq((self.finished & ~updating) | (settling == 1)),
            self.release.eq(
                delayed(m, self.finished, self.linger, "finished", reset_less=False)
            ),
        ]
        return m

    def _queue(self, m: Module, admitted: Signal):
        """What ``go`` said of the samples that have not finished; returns whether the oldest
        learns. ``admitted``: those of them that have not been forward."""
        entry = Cat(self.learn, self.first, self.last)
        places = [Signal(3, name=f"sample_{k}") for k in range(self.in_flight + 1)]
        level = Signal(range(self.in_flight + 2))
        m.d.sync += level.eq(level + self.go - self.finished)
        at = level - self.finished
        for k, place in enumerate(places):
            after = places[k + 1] if k + 1 < len(places) else place
            m.d.sync += place.eq(
                Mux(self.go & (at == k), entry, Mux(self.finished, after, place))
            )
        ahead = Signal.like(level)  # samples that have been forward and have not finished
        m.d.comb += [
            ahead.eq(level - admitted),
            self.is_learn.eq(places[0][0]), self.is_first.eq(places[0][1]),
            self.is_last.eq(places[0][2]),
            self.forward_learns.eq(Cat(place[0] for place in places).bit_select(ahead, 1)),
        ]  # fmt: skip
        return places[0][0]
