// A SPI flash in mode 0, as far as gategrad uses it: asleep at first, as configuration leaves it; AB
// wakes it, 03 reads from an address of 24 bits on. sim/board.cpp fills `content`.
module spi_flash (input cs, sck, copi, output reg cipo);
    reg [7:0] content [0:262143] /* verilator public_flat_rw */;
    integer i;
    initial for (i = 0; i < 262144; i = i + 1) content[i] = 8'hFF;

    reg [31:0] command;
    reg [5:0] count = 0;
    always @(posedge sck or posedge cs)
        if (cs) count <= 0;
        else if (count != 32) begin
            command <= {command[30:0], copi};
            count <= count + 1;
        end
    reg awake = 0;
    always @(posedge cs) if (count == 8 && command[7:0] == 8'hAB) awake <= 1;

    reg [20:0] sent = 0;  // bits
    wire [17:0] address = command[17:0] + sent[20:3];
    always @(negedge sck or posedge cs)
        if (cs) begin
            sent <= 0;
            cipo <= 1;
        end else if (awake && count == 32 && command[31:24] == 8'h03) begin
            sent <= sent + 1;
            cipo <= content[address][~sent[2:0]];
        end
endmodule
