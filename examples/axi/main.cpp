// The clock for testbench.v.
#include "Vtestbench.h"

int main() {
  VerilatedContext context;
  Vtestbench testbench(&context);
  while (!context.gotFinish()) {
    testbench.aclk = !testbench.aclk;
    testbench.eval();
  }
}
