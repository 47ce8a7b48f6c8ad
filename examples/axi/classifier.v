// A design of your own around the generated core: samples in, the class of each out.
//
// The class is the index of the greatest output, the lowest of equals. Parameters come from
// core.json: bits of a beat in, lanes a beat out, bits from lane to lane, outputs a sample.
module classifier #(
  parameter IN_BITS = 8,
  parameter LANES = 1,
  parameter STRIDE = 24,
  parameter OUTPUTS = 10
) (
  input aclk,
  input aresetn,
  input [IN_BITS-1:0] s_axis_tdata,
  input s_axis_tvalid,
  output s_axis_tready,
  output reg [15:0] class_index,
  output reg class_valid  // one cycle for every sample
);
  wire [LANES*STRIDE-1:0] tdata;
  wire tvalid, tlast;

  core core (
    .aclk(aclk),
    .aresetn(aresetn),
    .s_axis_tdata(s_axis_tdata),
    .s_axis_tvalid(s_axis_tvalid),
    .s_axis_tready(s_axis_tready),
    .m_axis_tdata(tdata),
    .m_axis_tvalid(tvalid),
    .m_axis_tready(1'b1),  // this design always takes what comes
    .m_axis_tlast(tlast)
  );

  // The greatest so far, its index, and the index of the beat's first element.
  reg signed [STRIDE-1:0] best, greatest, value;
  reg [15:0] best_index, winner, index;
  reg [15:0] first;
  integer lane;

  always @* begin
    greatest = best;
    winner = best_index;
    for (lane = 0; lane < LANES; lane = lane + 1) begin
      value = tdata[lane*STRIDE +: STRIDE];
      index = first + lane[15:0];
      // A short last beat ends in zeros that are no outputs.
      if (index < OUTPUTS && (index == 0 || value > greatest)) begin
        greatest = value;
        winner = index;
      end
    end
  end

  always @(posedge aclk) begin
    class_valid <= aresetn & tvalid & tlast;
    if (!aresetn) first <= 0;
    else if (tvalid) begin
      best <= greatest;
      best_index <= winner;
      class_index <= winner;
      first <= tlast ? 16'd0 : first + LANES[15:0];
    end
  end
endmodule
