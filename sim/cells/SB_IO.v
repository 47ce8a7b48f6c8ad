// iCE40 pin, as far as gategrad uses it: an input without a register, an output without one that is
// always or never driven or has an enable. Registers, latches, the second data bits and differential
// pins are not modelled; a configuration that needs them stops the simulation. The pull-up is not
// modelled either: a pin that nobody drives is undefined.
module SB_IO (
    inout PACKAGE_PIN,
    input LATCH_INPUT_VALUE, CLOCK_ENABLE, INPUT_CLK, OUTPUT_CLK, OUTPUT_ENABLE,
    input D_OUT_0, D_OUT_1,
    output D_IN_0, D_IN_1
);
    parameter [5:0] PIN_TYPE = 0;
    parameter PULLUP = 0, NEG_TRIGGER = 0, IO_STANDARD = "SB_LVCMOS";

    localparam [3:0] OUTPUT = PIN_TYPE[5:2];  // 0: none, 6: always, 10: with an enable
    initial
        if (PIN_TYPE[1:0] != 2'b01 || (OUTPUT != 0 && OUTPUT != 6 && OUTPUT != 10)) begin
            $display("SB_IO: configuration is not modelled");
            $stop;
        end
    assign PACKAGE_PIN = OUTPUT == 6 || (OUTPUT == 10 && OUTPUT_ENABLE) ? D_OUT_0 : 1'bz;
    assign D_IN_0 = PACKAGE_PIN;
    assign D_IN_1 = 1'b0;
endmodule
