// A SPI flash as its data sheet describes it (W25Q and the like): asleep until AB, then 03 reads.
module flash_chip #(parameter FILE = "", parameter SIZE = 1) (
    input cs_n, sck, copi,
    output cipo
);
    reg [7:0] data [0:SIZE-1];
    initial $readmemh(FILE, data);

    reg awake = 0, out = 1;
    reg [31:0] command = 0;
    integer count = 0;
    wire [31:0] bits = count - 32;
    wire [23:0] address = command[23:0] + {3'b0, bits[23:3]};
    wire [7:0] now = address < SIZE ? data[address] : 8'hff;

    always @(posedge sck or posedge cs_n)
        if (cs_n) begin
            if (count == 8 && command[7:0] == 8'hab) awake <= 1;
            count <= 0;
        end else begin
            if (count < 32) command <= {command[30:0], copi};
            count <= count + 1;
        end
    always @(negedge sck)
        out <= now[~bits[2:0]];
    assign cipo = cs_n || !awake || command[31:24] != 8'h03 ? 1'b1 : out;
endmodule
