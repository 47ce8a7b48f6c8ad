// ECP5 slice in carry mode: two bits of an adder. A look-up table each says whether the carry is
// passed on; where it is not, the carry becomes the table's value for C = D = 0. INJECT1 "YES" cuts
// the sum off from the carry that comes in, and makes 0 of a carry that is not passed on.
module CCU2C (
    input CIN, A0, B0, C0, D0, A1, B1, C1, D1,
    output S0, S1, COUT
);
    parameter [15:0] INIT0 = 0, INIT1 = 0;
    parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
    localparam CUT0 = INJECT1_0 == "YES", CUT1 = INJECT1_1 == "YES";

    wire pass0 = INIT0[{D0, C0, B0, A0}];
    wire pass1 = INIT1[{D1, C1, B1, A1}];
    wire carry = pass0 ? CIN : !CUT0 && INIT0[{2'b00, B0, A0}];
    assign COUT = pass1 ? carry : !CUT1 && INIT1[{2'b00, B1, A1}];
    assign S0 = pass0 ^ (!CUT0 && CIN);
    assign S1 = pass1 ^ (!CUT1 && carry);
endmodule
