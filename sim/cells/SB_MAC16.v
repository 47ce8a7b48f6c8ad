// iCE40 UltraPlus multiplier block, as far as gategrad uses it: two 8x8 products or one 16x16
// product, with operand and product registers. The adders, accumulators, holds and resets of the
// block are not modelled; a configuration that needs them stops the simulation.
module SB_MAC16 (
    input CLK, CE,
    input [15:0] A, B, C, D,
    input AHOLD, BHOLD, CHOLD, DHOLD,
    input IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT,
    input OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT, OHOLDTOP, OHOLDBOT,
    input CI, ACCUMCI, SIGNEXTIN,
    output [31:0] O,
    output CO, ACCUMCO, SIGNEXTOUT
);
    parameter [0:0] NEG_TRIGGER = 0;
    parameter [0:0] A_REG = 0, B_REG = 0, C_REG = 0, D_REG = 0;
    parameter [0:0] TOP_8x8_MULT_REG = 0, BOT_8x8_MULT_REG = 0;
    parameter [0:0] PIPELINE_16x16_MULT_REG1 = 0, PIPELINE_16x16_MULT_REG2 = 0;
    parameter [1:0] TOPOUTPUT_SELECT = 0, BOTOUTPUT_SELECT = 0;
    parameter [1:0] TOPADDSUB_LOWERINPUT = 0, BOTADDSUB_LOWERINPUT = 0;
    parameter [0:0] TOPADDSUB_UPPERINPUT = 0, BOTADDSUB_UPPERINPUT = 0;
    parameter [1:0] TOPADDSUB_CARRYSELECT = 0, BOTADDSUB_CARRYSELECT = 0;
    parameter [0:0] MODE_8x8 = 0, A_SIGNED = 0, B_SIGNED = 0;

    localparam [1:0] SELECT = MODE_8x8 ? 2 : 3;
    initial begin
        if (TOPOUTPUT_SELECT != SELECT || BOTOUTPUT_SELECT != SELECT || NEG_TRIGGER
            || TOP_8x8_MULT_REG != BOT_8x8_MULT_REG || C_REG || D_REG) begin
            $display("SB_MAC16: configuration is not modelled");
            $stop;
        end
    end

    reg [15:0] a_reg, b_reg;
    always @(posedge CLK)
        if (CE) begin
            a_reg <= A;
            b_reg <= B;
        end
    wire [15:0] a = A_REG ? a_reg : A;
    wire [15:0] b = B_REG ? b_reg : B;

    // One bit more than the operands, so that signed and unsigned are the same multiplication.
    wire signed [8:0] a_top = {A_SIGNED & a[15], a[15:8]};
    wire signed [8:0] a_bottom = {A_SIGNED & a[7], a[7:0]};
    wire signed [8:0] b_top = {B_SIGNED & b[15], b[15:8]};
    wire signed [8:0] b_bottom = {B_SIGNED & b[7], b[7:0]};
    wire signed [17:0] top = a_top * b_top;
    wire signed [17:0] bottom = a_bottom * b_bottom;
    wire signed [16:0] a_wide = {A_SIGNED & a[15], a};
    wire signed [16:0] b_wide = {B_SIGNED & b[15], b};
    wire signed [33:0] wide = a_wide * b_wide;

    reg [31:0] dual_reg, wide_reg1, wide_reg2;
    wire [31:0] dual = {top[15:0], bottom[15:0]};
    wire [31:0] wide1 = PIPELINE_16x16_MULT_REG1 ? wide_reg1 : wide[31:0];
    always @(posedge CLK)
        if (CE) begin
            dual_reg <= dual;
            wide_reg1 <= wide[31:0];
            wide_reg2 <= wide1;
        end
    wire [31:0] dual_out = TOP_8x8_MULT_REG ? dual_reg : dual;
    wire [31:0] wide_out = PIPELINE_16x16_MULT_REG2 ? wide_reg2 : wide1;
    assign O = MODE_8x8 ? dual_out : wide_out;
    assign CO = 0;
    assign ACCUMCO = 0;
    assign SIGNEXTOUT = 0;
endmodule
