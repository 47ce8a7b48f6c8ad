// Feeds the samples of samples.hex with random pauses and compares classes with classes.hex.
`include "vectors.vh"

module testbench (
  input aclk
);
  reg [`IN_BITS-1:0] samples [0:`SAMPLES*`BEATS-1];
  reg [15:0] classes [0:`SAMPLES-1];
  reg aresetn = 0, tvalid = 0;
  reg [15:0] noise = 16'hACE1;
  integer sent = 0, got = 0, cycles = 0;
  wire tready, class_valid;
  wire [15:0] class_index;

  classifier #(
    .IN_BITS(`IN_BITS),
    .LANES(`LANES),
    .STRIDE(`STRIDE),
    .OUTPUTS(`OUTPUTS)
  ) dut (
    .aclk(aclk),
    .aresetn(aresetn),
    .s_axis_tdata(samples[sent]),
    .s_axis_tvalid(tvalid),
    .s_axis_tready(tready),
    .class_index(class_index),
    .class_valid(class_valid)
  );

  initial begin
    $readmemh("samples.hex", samples);
    $readmemh("classes.hex", classes);
  end

  always @(posedge aclk) begin
    cycles <= cycles + 1;
    aresetn <= cycles > 16;
    noise <= {noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]};
    // Once offered, a beat stays until it is taken.
    if (tvalid & tready) sent <= sent + 1;
    if (!tvalid | tready)
      tvalid <= aresetn & (sent + {31'd0, tvalid} < `SAMPLES * `BEATS) & noise[0];
    if (class_valid) begin
      if (class_index !== classes[got]) begin
        $display("FAIL: sample %0d is %0d, not %0d", got, class_index, classes[got]);
        $fatal;
      end
      got <= got + 1;
      if (got == `SAMPLES - 1) begin
        $display("PASS: %0d samples in %0d cycles", `SAMPLES, cycles);
        $finish;
      end
    end
    if (cycles > 1000 + `SAMPLES * `CYCLES * 10) begin
      $display("FAIL: only %0d of %0d samples came out", got, `SAMPLES);
      $fatal;
    end
  end
endmodule
