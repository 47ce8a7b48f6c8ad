// ECP5 look-up table: bit D C B A of its contents.
module LUT4 (input A, B, C, D, output Z);
    parameter [15:0] INIT = 0;
    assign Z = INIT[{D, C, B, A}];
endmodule
