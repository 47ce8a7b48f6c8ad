// ECP5 input pin.
module IB (input I, output O);
    assign O = I;
endmodule
