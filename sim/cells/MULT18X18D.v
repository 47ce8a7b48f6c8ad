// ECP5 multiplier, as far as gategrad uses it: 18 by 18 bits, each operand signed or not, with
// operand, pipeline and output registers on CLK0, CE0 and RST0. The C operand, the cascades and
// the other clocks are not modelled.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK0, CE0, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
    P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0";
    parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0";
    parameter REG_PIPELINE_CLK = "NONE", REG_PIPELINE_CE = "CE0", REG_PIPELINE_RST = "RST0";
    parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0";
    parameter SOURCEB_MODE = "B_SHIFT", MULT_BYPASS = "DISABLED", CAS_MATCH_REG = "FALSE";
    parameter RESETMODE = "SYNC", GSR = "ENABLED";

    localparam A = REG_INPUTA_CLK == "NONE", B = REG_INPUTB_CLK == "NONE";
    localparam PIPELINE = REG_PIPELINE_CLK == "NONE", OUTPUT = REG_OUTPUT_CLK == "NONE";
    generate
        if ((!A && {REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST} != "CLK0CE0RST0")
            || (!B && {REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST} != "CLK0CE0RST0")
            || (!PIPELINE
                && {REG_PIPELINE_CLK, REG_PIPELINE_CE, REG_PIPELINE_RST} != "CLK0CE0RST0")
            || (!OUTPUT && {REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST} != "CLK0CE0RST0")
            || MULT_BYPASS != "DISABLED") begin : refusal
            MULT18X18D_with_parameters_that_are_not_modelled refusal ();
        end
    endgenerate
    wire [17:0] a_in = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b_in = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };
    // One bit more than the operands, so that signed and unsigned are the same multiplication.
    reg signed [18:0] a_reg, b_reg;
    reg signed [35:0] pipeline_reg, output_reg;
    wire signed [18:0] a_new = {SIGNEDA & A17, a_in};
    wire signed [18:0] b_new = {SIGNEDB & B17, b_in};
    wire signed [18:0] a = REG_INPUTA_CLK == "CLK0" ? a_reg : a_new;
    wire signed [18:0] b = REG_INPUTB_CLK == "CLK0" ? b_reg : b_new;
    wire signed [37:0] product = a * b;
    wire signed [35:0] piped = REG_PIPELINE_CLK == "CLK0" ? pipeline_reg : product[35:0];
    always @(posedge CLK0)
        if (RST0) begin
            a_reg <= 0;
            b_reg <= 0;
            pipeline_reg <= 0;
            output_reg <= 0;
        end else if (CE0) begin
            a_reg <= a_new;
            b_reg <= b_new;
            pipeline_reg <= product[35:0];
            output_reg <= piped;
        end
    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
        P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = REG_OUTPUT_CLK == "CLK0" ? output_reg : piped;
endmodule
