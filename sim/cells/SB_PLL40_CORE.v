// iCE40 PLL, as far as gategrad uses it: simple feedback, one output. Its reference comes from the
// fabric (CORE) or is the clock pin's pad (PAD). Its output is its reference: whoever drives that
// does so at the output's frequency. A setting outside of what the device can do stops the
// simulation.
module SB_PLL40_CORE (
    input REFERENCECLK, RESETB, BYPASS, EXTFEEDBACK, LATCHINPUTVALUE, SCLK, SDI,
    input [7:0] DYNAMICDELAY,
    output PLLOUTGLOBAL, PLLOUTCORE, LOCK, SDO
);
    parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK";
    parameter [3:0] DIVR = 0;
    parameter [6:0] DIVF = 0;
    parameter [2:0] DIVQ = 0;
    parameter [2:0] FILTER_RANGE = 0;
    // What a decoded bitstream says besides.
    parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
    parameter [3:0] FDA_FEEDBACK = 0, FDA_RELATIVE = 0;
    parameter SHIFTREG_DIV_MODE = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0;

    initial
        if (FEEDBACK_PATH != "SIMPLE" || PLLOUT_SELECT != "GENCLK" || DIVQ < 1 || DIVQ > 6
            || FILTER_RANGE < 1 || FILTER_RANGE > 6
            || DELAY_ADJUSTMENT_MODE_FEEDBACK != "FIXED" || FDA_FEEDBACK != 0
            || DELAY_ADJUSTMENT_MODE_RELATIVE != "FIXED" || FDA_RELATIVE != 0
            || SHIFTREG_DIV_MODE || ENABLE_ICEGATE || TEST_MODE) begin
            $display("%m: configuration is not modelled");
            $stop;
        end
    // Locks 64 cycles after reset; the device takes up to 50 microseconds.
    reg [6:0] cycles = 0;
    always @(posedge REFERENCECLK)
        if (!RESETB) cycles <= 0;
        else if (!LOCK) cycles <= cycles + 1;
    assign LOCK = cycles[6];
    assign PLLOUTGLOBAL = REFERENCECLK;
    assign PLLOUTCORE = REFERENCECLK;
    assign SDO = 1'b0;
endmodule
module SB_PLL40_PAD (
    input PACKAGEPIN, RESETB, BYPASS, EXTFEEDBACK, LATCHINPUTVALUE, SCLK, SDI,
    input [7:0] DYNAMICDELAY,
    output PLLOUTGLOBAL, PLLOUTCORE, LOCK, SDO
);
    parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK";
    parameter [3:0] DIVR = 0;
    parameter [6:0] DIVF = 0;
    parameter [2:0] DIVQ = 0;
    parameter [2:0] FILTER_RANGE = 0;
    parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
    parameter [3:0] FDA_FEEDBACK = 0, FDA_RELATIVE = 0;
    parameter SHIFTREG_DIV_MODE = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0;

    SB_PLL40_CORE #(
        FEEDBACK_PATH, PLLOUT_SELECT, DIVR, DIVF, DIVQ, FILTER_RANGE,
        DELAY_ADJUSTMENT_MODE_FEEDBACK, DELAY_ADJUSTMENT_MODE_RELATIVE, FDA_FEEDBACK, FDA_RELATIVE,
        SHIFTREG_DIV_MODE, ENABLE_ICEGATE, TEST_MODE
    ) pll (
        PACKAGEPIN, RESETB, BYPASS, EXTFEEDBACK, LATCHINPUTVALUE, SCLK, SDI, DYNAMICDELAY,
        PLLOUTGLOBAL, PLLOUTCORE, LOCK, SDO
    );
endmodule
