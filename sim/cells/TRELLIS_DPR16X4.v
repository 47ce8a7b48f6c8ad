// ECP5 slices as RAM: 16 words of four bits, written at the edge, read at once.
module TRELLIS_DPR16X4 (
    input [3:0] DI, WAD, RAD,
    input WCK, WRE,
    output [3:0] DO
);
    parameter WCKMUX = "WCK", WREMUX = "WRE";
    parameter [63:0] INITVAL = 0;  // word 0 lowest
    wire enable = WREMUX == "1" || (WREMUX == "WRE" && WRE) || (WREMUX == "INV" && !WRE);
    reg [63:0] words;
    initial words = INITVAL;
    generate
        if (WCKMUX == "INV") begin : falling
            always @(negedge WCK) if (enable) words[4*WAD +: 4] <= DI;
        end else begin : rising
            always @(posedge WCK) if (enable) words[4*WAD +: 4] <= DI;
        end
    endgenerate
    assign DO = words[4*RAD +: 4];
endmodule
