// iCE40 UltraPlus single-port RAM: 16,384 words of 16 bits, written by nibble. A write makes the
// output undefined; without CHIPSELECT it holds. The power modes are not modelled.
module SB_SPRAM256KA (
    input [13:0] ADDRESS,
    input [15:0] DATAIN,
    input [3:0] MASKWREN,
    input WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
    output reg [15:0] DATAOUT
);
    reg [15:0] words [0:16383];
    integer i;
    always @(posedge CLOCK)
        if (CHIPSELECT) begin
            if (WREN) begin
                for (i = 0; i < 4; i = i + 1)
                    if (MASKWREN[i]) words[ADDRESS][4*i +: 4] <= DATAIN[4*i +: 4];
                DATAOUT <= ~DATAIN;  // undefined in the device: nobody may rely on it
            end else
                DATAOUT <= words[ADDRESS];
        end
endmodule
