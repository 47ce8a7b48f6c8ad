// ECP5 clock gate: opens and closes while the clock is low, so that no pulse is cut.
module DCCA (input CLKI, CE, output CLKO);
    reg open;
    /* verilator lint_off LATCH */
    always @* if (!CLKI) open = CE;
    /* verilator lint_on LATCH */
    assign CLKO = CLKI & open;
endmodule
