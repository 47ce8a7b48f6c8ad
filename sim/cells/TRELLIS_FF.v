// ECP5 flip-flop. The device starts it, as its LSR does, at 1 for REGSET "SET" and at 0 otherwise.
// SRMODE "LSR_OVER_CE" sets and resets at the edge, "ASYNC" at once, both without the enable.
module TRELLIS_FF (input CLK, LSR, CE, DI, M, output reg Q);
    parameter GSR = "ENABLED", CEMUX = "1", CLKMUX = "CLK", LSRMUX = "LSR", REGSET = "RESET";
    parameter SRMODE = "LSR_OVER_CE", LSRMODE = "LSR";
    localparam VALUE = REGSET == "SET";

    wire enable = CEMUX == "1" || (CEMUX == "CE" && CE) || (CEMUX == "INV" && !CE);
    wire reset = LSRMUX == "INV" ? !LSR : LSR;
    wire next = reset ? VALUE : DI;
    initial Q = VALUE;
    /* verilator lint_off SYNCASYNCNET */  // one wire may reset cells of both kinds
    generate
        if (LSRMODE != "LSR" || (SRMODE != "LSR_OVER_CE" && SRMODE != "ASYNC")) begin : refusal
            TRELLIS_FF_with_parameters_that_are_not_modelled refusal ();
        end else if (CLKMUX == "INV" && SRMODE == "ASYNC") begin : falling_async
            always @(negedge CLK, posedge reset) if (reset) Q <= VALUE; else if (enable) Q <= DI;
        end else if (SRMODE == "ASYNC") begin : rising_async
            always @(posedge CLK, posedge reset) if (reset) Q <= VALUE; else if (enable) Q <= DI;
        end else if (CLKMUX == "INV") begin : falling
            always @(negedge CLK) if (reset || enable) Q <= next;
        end else begin : rising
            always @(posedge CLK) if (reset || enable) Q <= next;
        end
    endgenerate
    /* verilator lint_on SYNCASYNCNET */
endmodule
