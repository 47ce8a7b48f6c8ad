// ECP5 multiplexer behind others, which makes look-up tables of six inputs and more.
module L6MUX21 (input D0, D1, SD, output Z);
    assign Z = SD ? D1 : D0;
endmodule
