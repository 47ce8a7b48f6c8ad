// iCE40 pin that drives a global network, as far as gategrad uses it: a clock's input without a
// register.
module SB_GB_IO (
    inout PACKAGE_PIN,
    input LATCH_INPUT_VALUE, CLOCK_ENABLE, INPUT_CLK, OUTPUT_CLK, OUTPUT_ENABLE,
    input D_OUT_0, D_OUT_1,
    output D_IN_0, D_IN_1, GLOBAL_BUFFER_OUTPUT
);
    parameter [5:0] PIN_TYPE = 0;
    parameter PULLUP = 0, NEG_TRIGGER = 0, IO_STANDARD = "SB_LVCMOS";

    initial
        if (PIN_TYPE != 6'b000001) begin
            $display("SB_GB_IO: configuration is not modelled");
            $stop;
        end
    assign D_IN_0 = PACKAGE_PIN;
    assign D_IN_1 = 1'b0;
    assign GLOBAL_BUFFER_OUTPUT = PACKAGE_PIN;
endmodule
