// iCE40 carry of a full adder: the majority of three bits.
module SB_CARRY (input I0, I1, CI, output CO);
    assign CO = CI ? I0 | I1 : I0 & I1;
endmodule
