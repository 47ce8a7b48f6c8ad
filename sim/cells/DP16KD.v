// ECP5 block RAM, as far as gategrad uses it: two ports of 1, 2, 4, 9 or 18 bits, or port A writing
// and port B reading 36 bits, of which A's pins have the lower half; each with an output register if
// REGMODE is "OUTREG". Chip selects and resets are not modelled. A write leaves the port's output as
// it was, or with WRITEMODE "READBEFOREWRITE" reads what was there.
//
// The array is 2,048 units of nine bits. Rows of 18 bits are two units, narrower ones than nine
// share the lower eight bits of one. INITVALs hold two units in every twenty bits.
module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
    DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1,
    ADA0,
    input CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
    DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
    DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1,
    ADB0,
    input CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
    DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB";
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000";
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", GSR = "ENABLED";
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0;
    parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0;
    parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0;
    parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0;
    parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0;
    parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0;
    parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0;
    parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0;
    parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0;
    parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0;
    parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0;
    parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0;
    parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0;
    parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0;
    parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0;
    parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

    generate
        if ((WRITEMODE_A != "NORMAL" && WRITEMODE_A != "READBEFOREWRITE")
            || (WRITEMODE_B != "NORMAL" && WRITEMODE_B != "READBEFOREWRITE")
            || CLKAMUX != "CLKA" || CLKBMUX != "CLKB"
            || CSDECODE_A != "0b000" || CSDECODE_B != "0b000") begin : refusal
            DP16KD_with_parameters_that_are_not_modelled refusal ();
        end
    endgenerate
    localparam [64*320-1:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39,
        INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32,
        INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B,
        INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24,
        INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D,
        INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F,
        INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00
    };
    /* verilator lint_off MULTIDRIVEN */  // two ports write
    reg [8:0] units [0:2047];
    /* verilator lint_on MULTIDRIVEN */
    integer i;
    initial for (i = 0; i < 2048; i = i + 1) units[i] = INIT[20*(i/2) + 9*(i%2) +: 9];

    wire [13:0] ada = {
        ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0
    };
    wire [17:0] dia = {
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
        DIA4, DIA3, DIA2, DIA1, DIA0
    };
    wire [13:0] adb = {
        ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0
    };
    wire [17:0] dib = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0
    };
    wire [10:0] unit_b = adb[13:3];
    reg [17:0] read_a, out_a;
    wire [10:0] unit_a = ada[13:3];
    always @(posedge CLKA) begin
        if (CEA && WEA)
            case (DATA_WIDTH_A)
                36: begin
                    if (ada[0]) units[{unit_a[10:2], 2'd0}] <= dia[8:0];
                    if (ada[1]) units[{unit_a[10:2], 2'd1}] <= dia[17:9];
                    if (ada[2]) units[{unit_a[10:2], 2'd2}] <= dib[8:0];
                    if (ada[3]) units[{unit_a[10:2], 2'd3}] <= dib[17:9];
                end
                18: begin  // the lowest address bits enable the bytes
                    if (ada[0]) units[{unit_a[10:1], 1'b0}] <= dia[8:0];
                    if (ada[1]) units[{unit_a[10:1], 1'b1}] <= dia[17:9];
                end
                9: units[unit_a] <= dia[8:0];
                4: units[unit_a][4*ada[2] +: 4] <= dia[3:0];
                2: units[unit_a][2*ada[2:1] +: 2] <= dia[1:0];
                default: units[unit_a][ada[2:0]] <= dia[0];
            endcase
        if (CEA && (!WEA || WRITEMODE_A == "READBEFOREWRITE"))
            case (DATA_WIDTH_A)
                36: ;  // this port only writes
                18: read_a <= {units[{unit_a[10:1], 1'b1}], units[{unit_a[10:1], 1'b0}]};
                9: read_a <= {9'b0, units[unit_a]};
                4: read_a <= {14'b0, units[unit_a][4*ada[2] +: 4]};
                2: read_a <= {16'b0, units[unit_a][2*ada[2:1] +: 2]};
                default: read_a <= {17'b0, units[unit_a][ada[2:0]]};
            endcase
        if (CEB && DATA_WIDTH_B == 36)
            read_a <= {units[{unit_b[10:2], 2'd1}], units[{unit_b[10:2], 2'd0}]};
        if (OCEA) out_a <= read_a;
    end
    assign {
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
        DOA4, DOA3, DOA2, DOA1, DOA0
    } = REGMODE_A == "OUTREG" ? out_a : read_a;

    reg [17:0] read_b, out_b;
    always @(posedge CLKB) begin
        if (CEB && WEB)
            case (DATA_WIDTH_B)
                18: begin  // the lowest address bits enable the bytes
                    if (adb[0]) units[{unit_b[10:1], 1'b0}] <= dib[8:0];
                    if (adb[1]) units[{unit_b[10:1], 1'b1}] <= dib[17:9];
                end
                9: units[unit_b] <= dib[8:0];
                4: units[unit_b][4*adb[2] +: 4] <= dib[3:0];
                2: units[unit_b][2*adb[2:1] +: 2] <= dib[1:0];
                default: units[unit_b][adb[2:0]] <= dib[0];
            endcase
        if (CEB && (!WEB || WRITEMODE_B == "READBEFOREWRITE"))
            case (DATA_WIDTH_B)
                36: read_b <= {units[{unit_b[10:2], 2'd3}], units[{unit_b[10:2], 2'd2}]};
                18: read_b <= {units[{unit_b[10:1], 1'b1}], units[{unit_b[10:1], 1'b0}]};
                9: read_b <= {9'b0, units[unit_b]};
                4: read_b <= {14'b0, units[unit_b][4*adb[2] +: 4]};
                2: read_b <= {16'b0, units[unit_b][2*adb[2:1] +: 2]};
                default: read_b <= {17'b0, units[unit_b][adb[2:0]]};
            endcase
        if (OCEB) out_b <= read_b;
    end
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
        DOB4, DOB3, DOB2, DOB1, DOB0
    } = REGMODE_B == "OUTREG" ? out_b : read_b;
endmodule
