// iCE40 flip-flops, all 0 when the device starts. Letters after SB_DFF: N for the falling edge, E
// for an enable; SR and SS reset and set at the edge, where enabled; R and S do so at once, always.
module gg_sb_dff #(parameter FALLING = 0, ASYNC = 0, VALUE = 0) (output reg Q, input C, E, X, D);
    initial Q = 0;
    wire next = X ? VALUE[0] : D;
    /* verilator lint_off SYNCASYNCNET */  // one wire may reset cells of both kinds
    generate
        if (FALLING && ASYNC) begin : falling_async
            always @(negedge C, posedge X) if (X) Q <= VALUE[0]; else if (E) Q <= D;
        end else if (ASYNC) begin : rising_async
            always @(posedge C, posedge X) if (X) Q <= VALUE[0]; else if (E) Q <= D;
        end else if (FALLING) begin : falling
            always @(negedge C) if (E) Q <= next;
        end else begin : rising
            always @(posedge C) if (E) Q <= next;
        end
    endgenerate
    /* verilator lint_on SYNCASYNCNET */
endmodule
module SB_DFF (output Q, input C, D);
    gg_sb_dff #(0, 0, 0) ff (Q, C, 1'b1, 1'b0, D);
endmodule
module SB_DFFSR (output Q, input C, R, D);
    gg_sb_dff #(0, 0, 0) ff (Q, C, 1'b1, R, D);
endmodule
module SB_DFFR (output Q, input C, R, D);
    gg_sb_dff #(0, 1, 0) ff (Q, C, 1'b1, R, D);
endmodule
module SB_DFFSS (output Q, input C, S, D);
    gg_sb_dff #(0, 0, 1) ff (Q, C, 1'b1, S, D);
endmodule
module SB_DFFS (output Q, input C, S, D);
    gg_sb_dff #(0, 1, 1) ff (Q, C, 1'b1, S, D);
endmodule
module SB_DFFE (output Q, input C, E, D);
    gg_sb_dff #(0, 0, 0) ff (Q, C, E, 1'b0, D);
endmodule
module SB_DFFESR (output Q, input C, E, R, D);
    gg_sb_dff #(0, 0, 0) ff (Q, C, E, R, D);
endmodule
module SB_DFFER (output Q, input C, E, R, D);
    gg_sb_dff #(0, 1, 0) ff (Q, C, E, R, D);
endmodule
module SB_DFFESS (output Q, input C, E, S, D);
    gg_sb_dff #(0, 0, 1) ff (Q, C, E, S, D);
endmodule
module SB_DFFES (output Q, input C, E, S, D);
    gg_sb_dff #(0, 1, 1) ff (Q, C, E, S, D);
endmodule
module SB_DFFN (output Q, input C, D);
    gg_sb_dff #(1, 0, 0) ff (Q, C, 1'b1, 1'b0, D);
endmodule
module SB_DFFNSR (output Q, input C, R, D);
    gg_sb_dff #(1, 0, 0) ff (Q, C, 1'b1, R, D);
endmodule
module SB_DFFNR (output Q, input C, R, D);
    gg_sb_dff #(1, 1, 0) ff (Q, C, 1'b1, R, D);
endmodule
module SB_DFFNSS (output Q, input C, S, D);
    gg_sb_dff #(1, 0, 1) ff (Q, C, 1'b1, S, D);
endmodule
module SB_DFFNS (output Q, input C, S, D);
    gg_sb_dff #(1, 1, 1) ff (Q, C, 1'b1, S, D);
endmodule
module SB_DFFNE (output Q, input C, E, D);
    gg_sb_dff #(1, 0, 0) ff (Q, C, E, 1'b0, D);
endmodule
module SB_DFFNESR (output Q, input C, E, R, D);
    gg_sb_dff #(1, 0, 0) ff (Q, C, E, R, D);
endmodule
module SB_DFFNER (output Q, input C, E, R, D);
    gg_sb_dff #(1, 1, 0) ff (Q, C, E, R, D);
endmodule
module SB_DFFNESS (output Q, input C, E, S, D);
    gg_sb_dff #(1, 0, 1) ff (Q, C, E, S, D);
endmodule
module SB_DFFNES (output Q, input C, E, S, D);
    gg_sb_dff #(1, 1, 1) ff (Q, C, E, S, D);
endmodule
