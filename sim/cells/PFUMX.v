// ECP5 multiplexer of two look-up tables, which makes one of five inputs.
module PFUMX (input ALUT, BLUT, C0, output Z);
    assign Z = C0 ? ALUT : BLUT;
endmodule
