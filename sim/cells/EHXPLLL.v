// ECP5 PLL, as far as gategrad uses it: one output, CLKOP, fed back to CLKFB. Its output is its
// reference: whoever drives that does so at the output's frequency. A setting that is not modelled
// stops the simulation.
module EHXPLLL (
    input CLKI, CLKFB, RST, STDBY, PLLWAKESYNC, ENCLKOP, ENCLKOS, ENCLKOS2, ENCLKOS3,
    input PHASESEL1, PHASESEL0, PHASEDIR, PHASESTEP, PHASELOADREG,
    output CLKOP, CLKOS, CLKOS2, CLKOS3, LOCK, INTLOCK, REFCLK, CLKINTFB
);
    parameter PLLRST_ENA = "DISABLED", INTFB_WAKE = "DISABLED", STDBY_ENABLE = "DISABLED";
    parameter DPHASE_SOURCE = "DISABLED", FEEDBK_PATH = "CLKOP";
    parameter OUTDIVIDER_MUXA = "DIVA", OUTDIVIDER_MUXB = "DIVB";
    parameter OUTDIVIDER_MUXC = "DIVC", OUTDIVIDER_MUXD = "DIVD";
    parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_ENABLE = "ENABLED", CLKOP_DIV = 8;
    parameter CLKOP_CPHASE = 0, CLKOP_FPHASE = 0;

    initial
        if (FEEDBK_PATH != "CLKOP" || CLKOP_ENABLE != "ENABLED" || OUTDIVIDER_MUXA != "DIVA"
            || CLKI_DIV < 1 || CLKI_DIV > 128 || CLKFB_DIV < 1 || CLKFB_DIV > 80
            || CLKOP_DIV < 1 || CLKOP_DIV > 128) begin
            $display("EHXPLLL: configuration is not modelled");
            $stop;
        end
    // Locks after 64 cycles of the clock that is fed back: never, if none is.
    reg [6:0] cycles = 0;
    always @(posedge CLKFB)
        if (RST) cycles <= 0;
        else if (!LOCK) cycles <= cycles + 1;
    assign LOCK = cycles[6];
    assign INTLOCK = LOCK;
    assign CLKOP = CLKI;
    assign {CLKOS, CLKOS2, CLKOS3} = 3'b0;
    assign REFCLK = CLKI;
    assign CLKINTFB = CLKI;
endmodule
