# amaranth: UnusedElaboratable=no
"""A whole board whose weights come from its flash: pins, clock, link and core in Verilator."""

import random
import re
from pathlib import Path

import pytest
from flash_support import bitstream
from link_support import MODEL, SumCore, unsigned_bytes

from gategrad.boards import find_board
from gategrad.boards.boot import flash_image
from gategrad.boards.host import Link
from gategrad.boards.top import BoardTop
from gategrad.sim.board import BoardModel
from gategrad.sim.verilog import module_ports
from gategrad.virtual_board import board_cells, board_verilog

CHIP = Path(__file__).with_name("flash_chip.v")
WEIGHTS = random.Random(9).randbytes(1000)
#: Ports of the design, and those of the chip that they are soldered to.
WIRES = {"cs__io": "cs_n", "sck__io": "sck", "copi__io": "copi", "cipo__io": "cipo"}


def soldered(verilog: str, image: Path, size: int) -> str:
    """Module ``top`` with the flash on its pins; those go no further."""
    ports = module_ports(verilog, "top")
    flash = {name for name in ports if name.startswith("weights_flash")}
    inner = re.sub(r"^module top\b", "module board_top", verilog, flags=re.MULTILINE)
    outer = [name for name in ports if name not in flash]
    declared = "".join(f"  {ports[name].direction} {name};\n" for name in outer)
    declared += "".join(f"  wire [{ports[name].width - 1}:0] {name};\n" for name in sorted(flash))
    chip = ", ".join(f".{pin}(weights_flash_0__{port})" for port, pin in WIRES.items())
    return (
        f"{inner}\n{CHIP.read_text()}\nmodule top({', '.join(outer)});\n{declared}"
        f"  board_top inner({', '.join(f'.{name}({name})' for name in ports)});\n"
        f'  flash_chip #(.FILE("{image}"), .SIZE({size})) chip({chip});\nendmodule\n'
    )


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """An iCEBreaker with a record of its own weights in the flash."""
    found = find_board("icebreaker")
    core = SumCore(inputs=16, load_bytes=len(WEIGHTS))
    top = BoardTop(found, core, MODEL, 12e6, boot=True)
    image = flash_image(bitstream(found), MODEL, WEIGHTS, found.flash.offset)
    path = tmp_path_factory.mktemp("flash") / "flash.hex"
    path.write_text("\n".join(f"{byte:02x}" for byte in image))
    verilog, pins = board_verilog(top)
    pins = {name: net for name, net in pins.items() if "weights_flash" not in name}
    text = soldered(verilog, path, len(image))
    patience = (0.1, 1.25)
    with BoardModel(text, "top", pins, top.frequency, top.baud, patience, board_cells()) as model:
        yield core, model, top


@pytest.mark.timeout(200)
def test_a_board_that_works_without_loading(board):
    core, model, top = board
    with Link(model.port, top.baud, MODEL) as link:
        # 32 cycles a byte at 12 MHz; the clock only runs while somebody talks.
        for _ in range(20):
            if link.identify().loaded:
                break
        assert link.identify().loaded and not link.identify().written
        x = list(range(-8, 8))
        assert link.infer(unsigned_bytes(x)) == core.expected(x, sum(WEIGHTS))
        link.load(bytes(len(WEIGHTS)))
        assert link.infer(unsigned_bytes(x)) == core.expected(x, 0)
