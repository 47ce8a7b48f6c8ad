// What harness.cpp and streams.cpp share: a verilated `gg_top`, its clock, its life, stalls, faults.
//
// Payload ports of `gg_top` are at least 65 bits wide, so that they are always arrays of 32-bit
// words; sim/compiled.py puts this text in the place of its #include.

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "Vgg_top.h"
#include "verilated.h"

namespace {

using Word = uint32_t;
enum Fault : int64_t { NONE, DROPPED_VALID, CHANGED_PAYLOAD };  // FAULTS of sim/result.py

struct Simulation {
    VerilatedContext context;
    std::unique_ptr<Vgg_top> top{new Vgg_top(&context)};

    virtual ~Simulation() { top->final(); }

    // Offers nothing and takes nothing.
    virtual void withdraw() = 0;

    // Inputs are set before; afterwards the outputs are those just before the clock edge.
    void settle() { top->clk = 0; top->eval(); }
    void edge() { top->clk = 1; top->eval(); }
};

// 64 random bits for a cycle: splitmix64, as sim/result.py has it.
uint64_t draw(uint64_t seed, uint64_t cycle) {
    uint64_t z = seed + (cycle + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

}  // namespace

// All other symbols are hidden, so that models of different designs live in one process.
#define GG_EXPORT __attribute__((visibility("default")))

extern "C" {

GG_EXPORT void gg_destroy(Simulation *model) { delete model; }

// Sixteen cycles of reset; memories keep what they hold.
GG_EXPORT void gg_reset(Simulation *model) {
    model->withdraw();
    model->top->rst = 1;
    for (int cycle = 0; cycle < 16; ++cycle) { model->settle(); model->edge(); }
    model->top->rst = 0;
}

}  // extern "C"
