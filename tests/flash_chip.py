"""A SPI flash as its data sheet describes it (W25Q and the like), on a component's pins."""


class FlashChip:
    """Mode 0. Asleep at first, as configuration leaves it; 0xAB wakes it, 0x03 reads.

    ``data`` lies at address 0, what is beyond is erased. ``wakes``: cycles from the end of 0xAB to
    the first command that is heard. ``delay``: cycles from a falling clock to the new bit.
    ``stuck``: a level that the data line has whatever is asked.
    """

    def __init__(self, data, wakes=30, delay=1, stuck=None):
        self.data, self.wakes, self.delay, self.stuck = data, wakes, delay, stuck
        #: Every command heard while awake, with the address of a read.
        self.commands = []
        #: Bytes that were read.
        self.read = 0

    async def run(self, ctx, dut):
        asleep, awake_at, now = True, None, 0
        was_sck, was_cs, received, count = 0, 0, 0, 0
        pending = []
        while True:
            sck, cs, copi = ctx.get(dut.sck), ctx.get(dut.cs), ctx.get(dut.copi)
            assert not sck or cs, "the clock runs without a selection"
            if cs and not was_cs:
                assert not sck, "mode 0 begins with a low clock"
                received = count = 0
            if cs and sck and not was_sck:
                received = received << 1 | copi
                count += 1
                if count == 8 and not asleep and (awake_at is None or now >= awake_at):
                    self.commands.append([received])
                if count == 32 and not asleep and received >> 24 == 0x03 and now >= awake_at:
                    self.commands[-1].append(received & 0xFFFFFF)
            reading = count >= 32 and self.commands and len(self.commands[-1]) == 2
            if cs and was_sck and not sck and reading:
                index, bit = divmod(count - 32, 8)
                at = self.commands[-1][1] + index
                byte = self.data[at] if at < len(self.data) else 0xFF
                self.read = index + 1
                pending.append((now + self.delay, byte >> (7 - bit) & 1))
            if was_cs and not cs and count == 8 and received == 0xAB:
                asleep, awake_at = False, now + self.wakes
            while pending and pending[0][0] <= now:
                ctx.set(dut.cipo, pending.pop(0)[1])
            if self.stuck is not None:
                ctx.set(dut.cipo, self.stuck)
            was_sck, was_cs = sck, cs
            now += 1
            await ctx.tick()
