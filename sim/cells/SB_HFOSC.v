// iCE40 UltraPlus oscillator. It is the clock of the module around the design, at the frequency that
// CLKHF_DIV makes of 48 MHz.
module SB_HFOSC (
    input CLKHFEN, CLKHFPU,
    output CLKHF
);
    parameter CLKHF_DIV = "0b00";
    assign CLKHF = gg_top.clk & CLKHFEN & CLKHFPU;
endmodule
