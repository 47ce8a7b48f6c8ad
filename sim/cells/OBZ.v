// ECP5 output pin, open while T is high.
module OBZ (input I, T, output O);
    assign O = T ? 1'bz : I;
endmodule
