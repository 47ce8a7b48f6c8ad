# amaranth: UnusedElaboratable=no
"""A board without the board: its complete top level in simulation, at a serial port."""

from pathlib import Path

import gategrad.sim
from gategrad.boards.board import Board, find_board
from gategrad.boards.boot import flash_image
from gategrad.boards.build import no_progress, plan
from gategrad.boards.tools import Progress
from gategrad.boards.top import BoardTop
from gategrad.core import Core, load_image
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learn_build import plan_trainer, trainer_top
from gategrad.model import Model
from gategrad.sim.board import FLASH, BoardModel
from gategrad.sim.verilog import rtlil_to_verilog
from gategrad.verbs import device_hash, plan_for

#: Seconds of the board's clock without traffic after which that clock stops, besides those that a
#: sample takes: more than the gateware waits for the rest of a frame.
PATIENCE = 0.1
#: The same after traffic at another baud rate than the board's own: more than the gateware waits
#: until it is back at its own.
FAST_PATIENCE = 1.25


class VirtualBoard(BoardModel):
    """``top`` switched on: ``with VirtualBoard(top) as board: Link(board.port, top.baud)``.

    What is simulated is the design that a bitstream is made from, down to the pins: the same
    RTLIL, with models of the vendor's cells in :mod:`gategrad.sim`. A PLL makes no clock of its
    own there: its reference runs at the network's clock. Compiling takes seconds, once.

    ``weights``: the image that its flash holds for it, where ``top`` looks there at power-up; by
    default nothing is in the flash. ``patience``: seconds of the network's clock without traffic
    after which it stops, so that a board that nobody talks to costs nothing; by default longer than
    a sample takes. The rest is said at :class:`BoardModel`.

    Raises ``GategradError``.
    """

    def __init__(
        self,
        top: BoardTop,
        *,
        weights: bytes | None = None,
        patience: float | None = None,
        progress: Progress = no_progress,
    ) -> None:
        if top.transport != "uart":
            raise GategradError(f"a virtual board has a UART, no link over {top.transport}")
        self.top = top
        progress("Verilog", None, "the first time this compiles Yosys, once on this machine")
        verilog, pins = board_verilog(top)
        progress("Verilog", 1.0, "")
        progress("compiling the simulation", None, "")
        if patience is None:
            patience = PATIENCE + _sample(top)
        waits = (patience, max(patience, FAST_PATIENCE))
        flash = b""
        if weights and top.flash:
            flash = flash_image(b"", top.model, weights, top.flash.offset)
        super().__init__(
            verilog, "top", pins, top.frequency, top.baud, waits, board_cells(), flash
        )
        progress("compiling the simulation", 1.0, "")


def _sample(top: BoardTop) -> float:
    """Seconds from a sample's last byte to its result, at most; 0 if the core has no plan."""
    plan = getattr(top.core, "plan", None)
    layers = [n.layout.cycles for n in plan.nodes] if plan else []
    return 2 * getattr(top.core, "frames_at_once", 1) * sum(layers) / top.frequency


def board_cells() -> list[Path]:
    """The models of vendors' cells."""
    return sorted((Path(gategrad.sim.__file__).parent / "cells").glob("*.v"))


def board_verilog(top: BoardTop) -> tuple[str, dict[str, str]]:
    """The design of a bitstream of ``top`` as Verilog, module ``top``; and what each of its pins is
    (:func:`gategrad.sim.board.adapter`)."""
    text = plan(top.board, top).files["top.il"]
    verilog = rtlil_to_verilog(text.decode() if isinstance(text, bytes) else text, "top")
    pins = board_pins(top.board, verilog)
    if top.flash:
        pins |= {f"weights_flash_0__{name.removeprefix('flash_')}__io": name for name in FLASH}
    return verilog, pins


def board_pins(board: Board, verilog: str) -> dict[str, str]:
    """What the pins of a design for ``board`` are: the UART's, the clock's where ``verilog`` has
    it, and the button's."""
    platform = board.platform()
    pins = {"uart_0__rx__io": "rx", "uart_0__tx__io": "tx"}
    if (clock := f"{platform.default_clk}_0__io") in verilog:
        pins[clock] = "clk"
    if platform.default_rst is not None:
        (button,) = platform.lookup(platform.default_rst).ios
        pins[f"{platform.default_rst}_0__io"] = "~rst" if button.invert else "rst"
    return pins


def top_of(
    model: Model | Network,
    board: Board | str,
    data: Dataset | None = None,
    *,
    rate: float | None = None,
    frequency: float | None = None,
    baud: int | None = None,
    loadable: bool = False,
) -> BoardTop:
    """What `gategrad build`, or for a network `gategrad trainer`, makes a bitstream of.

    ``data``: of a network, chooses the formats; ``rate``: samples a second, of a model;
    ``frequency``: Hz; ``loadable``: a model with weights that can be changed.

    Raises :class:`GategradError`.
    """
    found = find_board(board) if isinstance(board, str) else board
    if isinstance(model, Model):
        core = Core(plan_for(model, found, rate, loadable), input_lanes=1)
        said = device_hash(core, model, load_image(core))
        return BoardTop(found, core, said, frequency, baud, boot=True)
    if loadable:
        raise GategradError(
            f"network {model.name!r} learns on the board, which takes any weights: leave out "
            "--loadable"
        )
    if data is None:
        raise GategradError(
            f"network {model.name!r} learns on the board, and samples choose its formats: add "
            "--data"
        )
    return trainer_top(plan_trainer(model, data, found).plan, frequency, baud)
