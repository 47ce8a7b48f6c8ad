// iCE40 block RAM: 256 words of 16 bits, a port that reads and a port that writes. In modes 1, 2
// and 3 a word holds 2, 4 or 8 interleaved rows of 8, 4 or 2 bits; address bits 8 and up choose
// one, and each group of bits has one wire: 2i, 4i + 1 or 8i + 3.
module SB_RAM40_4K (
    output reg [15:0] RDATA,
    input RCLK, RCLKE, RE,
    input [10:0] RADDR,
    input WCLK, WCLKE, WE,
    input [10:0] WADDR,
    input [15:0] MASK, WDATA
);
    parameter [1:0] READ_MODE = 0, WRITE_MODE = 0;
    parameter [255:0] INIT_0 = 0, INIT_1 = 0, INIT_2 = 0, INIT_3 = 0;
    parameter [255:0] INIT_4 = 0, INIT_5 = 0, INIT_6 = 0, INIT_7 = 0;
    parameter [255:0] INIT_8 = 0, INIT_9 = 0, INIT_A = 0, INIT_B = 0;
    parameter [255:0] INIT_C = 0, INIT_D = 0, INIT_E = 0, INIT_F = 0;

    localparam [4095:0] INIT = {
        INIT_F, INIT_E, INIT_D, INIT_C, INIT_B, INIT_A, INIT_9, INIT_8,
        INIT_7, INIT_6, INIT_5, INIT_4, INIT_3, INIT_2, INIT_1, INIT_0
    };
    reg [15:0] words [0:255];
    integer i;
    initial for (i = 0; i < 256; i = i + 1) words[i] = INIT[16*i +: 16];

    function [3:0] wire_of(input [1:0] mode, input [3:0] bit_of_word);
        case (mode)
            0: wire_of = bit_of_word;
            1: wire_of = {bit_of_word[3:1], 1'b0};
            2: wire_of = {bit_of_word[3:2], 2'b01};
            default: wire_of = {bit_of_word[3], 3'b011};
        endcase
    endfunction

    function chosen(input [1:0] mode, input [2:0] row, input [3:0] bit_of_word);
        case (mode)
            0: chosen = 1;
            1: chosen = bit_of_word[0] == row[0];
            2: chosen = bit_of_word[1:0] == row[1:0];
            default: chosen = bit_of_word[2:0] == row;
        endcase
    endfunction

    integer r, w;
    always @(posedge RCLK)
        if (RCLKE && RE) begin
            RDATA <= 0;
            for (r = 0; r < 16; r = r + 1)
                if (chosen(READ_MODE, RADDR[10:8], r[3:0]))
                    RDATA[wire_of(READ_MODE, r[3:0])] <= words[RADDR[7:0]][r];
        end
    always @(posedge WCLK)
        if (WCLKE && WE)
            for (w = 0; w < 16; w = w + 1)
                if (chosen(WRITE_MODE, WADDR[10:8], w[3:0]) && !(WRITE_MODE == 0 && MASK[w]))
                    words[WADDR[7:0]][w] <= WDATA[wire_of(WRITE_MODE, w[3:0])];
endmodule
