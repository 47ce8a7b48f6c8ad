// The C++ side of gategrad.sim.verilator: feeds frames to a verilated design and collects its
// outputs, a cycle at a time, with the same stall pattern as sim/result.py `Stalls.draw`.
//
// Compiled together with the verilated model of the module `gg_top` (see sim/verilator.py). The
// macros GG_{I,O}_{WIDTH,STRIDE,LANES,ELEMENTS}, GG_O_SIGNED and GG_AXI come from there too.

#include "harness.h"

namespace {

constexpr int words(int bits) { return bits <= 65 ? 3 : (bits + 31) / 32; }
constexpr int I_WORDS = words(GG_I_STRIDE * GG_I_LANES);
constexpr int O_WORDS = words(GG_O_STRIDE * GG_O_LANES);

constexpr int64_t PADDING = 3, LAST = 4;  // faults of frames

// Mirrors gategrad.sim.verilator._State, field by field.
struct State {
    const int64_t *frames;   // samples x GG_I_ELEMENTS
    int64_t *outputs;        // samples x GG_O_ELEMENTS
    int64_t *frame_ends;     // samples
    const uint8_t *load;     // load_bytes
    int64_t samples, load_bytes;
    uint64_t seed;
    uint64_t stall_source, stall_sink;  // of 2**32
    int64_t cycle, load_cycle, sent, taken, loaded;  // progress; beats, bytes
    int64_t first_in, first_out, fault, fault_cycle;
};

struct Model : Simulation {
    int64_t element_in = 0, element_out = 0;  // within the current frames
    bool offering = false, waited = false;
    Word held[O_WORDS];

    void withdraw() override {
        element_in = element_out = 0;
        offering = waited = false;
        top->i_valid = top->o_ready = top->load_valid = 0;
    }
};

int lanes_used(int64_t element, int elements, int lanes) {
    return elements - element < lanes ? int(elements - element) : lanes;
}

// On AXI4-Stream the sign fills the rest of the byte, elsewhere width and stride are the same.
void pack(const int64_t *values, int count, Word *payload) {
    std::memset(payload, 0, I_WORDS * sizeof(Word));
    constexpr uint64_t mask = ~0ull >> (64 - GG_I_STRIDE);
    for (int lane = 0, bit = 0; lane < count; ++lane, bit += GG_I_STRIDE) {
        const uint64_t value = uint64_t(values[lane]) & mask;
        const int word = bit / 32, shift = bit % 32;
        payload[word] |= Word(value << shift);
        if (shift + GG_I_STRIDE > 32) payload[word + 1] |= Word(value >> (32 - shift));
        if (shift + GG_I_STRIDE > 64) payload[word + 2] |= Word(value >> (64 - shift));
    }
}

uint64_t bits_at(const Word *payload, int bit) {
    const int word = bit / 32, shift = bit % 32;
    uint64_t value = payload[word] >> shift;
    if (shift + GG_O_STRIDE > 32) value |= uint64_t(payload[word + 1]) << (32 - shift);
    if (shift + GG_O_STRIDE > 64) value |= uint64_t(payload[word + 2]) << (64 - shift);
    return value;
}

// Returns whether the lanes that carry no element are zero.
bool unpack(const Word *payload, int count, int64_t *values) {
    for (int lane = 0; lane < count; ++lane) {
        const uint64_t value = bits_at(payload, lane * GG_O_STRIDE) << (64 - GG_O_WIDTH);
        values[lane] = GG_O_SIGNED ? int64_t(value) >> (64 - GG_O_WIDTH)
                                   : int64_t(value >> (64 - GG_O_WIDTH));
    }
    constexpr uint64_t mask = ~0ull >> (64 - GG_O_STRIDE);
    for (int lane = count; lane < GG_O_LANES; ++lane)
        if (bits_at(payload, lane * GG_O_STRIDE) & mask) return false;
    return true;
}

void fail(State &s, int64_t fault) {
    if (s.fault == NONE) { s.fault = fault; s.fault_cycle = s.cycle; }
}

void step(Model &m, State &s, int64_t beats_in) {
    Vgg_top &top = *m.top;
    bool stall_source = false, stall_sink = false;
    if (s.stall_source | s.stall_sink) {
        const uint64_t random = draw(s.seed, uint64_t(s.cycle));
        stall_source = (random & 0xFFFFFFFF) < s.stall_source;
        stall_sink = (random >> 32) < s.stall_sink;
    }
    const int count_in = lanes_used(m.element_in, GG_I_ELEMENTS, GG_I_LANES);
    if (!m.offering) {
        m.offering = s.sent < beats_in && !stall_source;
        if (m.offering) pack(s.frames + m.element_in, count_in, &top.i_payload[0]);
        top.i_valid = m.offering;
    }
    top.o_ready = !stall_sink;
    m.settle();

    if (m.waited) {
        if (!top.o_valid) fail(s, DROPPED_VALID);
        else if (std::memcmp(m.held, &top.o_payload[0], sizeof m.held)) fail(s, CHANGED_PAYLOAD);
    }
    m.waited = top.o_valid && stall_sink;
    if (m.waited) std::memcpy(m.held, &top.o_payload[0], sizeof m.held);

    if (m.offering && top.i_ready) {
        if (s.sent++ == 0) s.first_in = s.cycle;
        m.offering = false;
        m.element_in += count_in;
        if (m.element_in == GG_I_ELEMENTS) { m.element_in = 0; s.frames += GG_I_ELEMENTS; }
    }
    if (top.o_valid && !stall_sink) {
        if (s.taken++ == 0) s.first_out = s.cycle;
        const int count = lanes_used(m.element_out, GG_O_ELEMENTS, GG_O_LANES);
        if (!unpack(&top.o_payload[0], count, s.outputs + m.element_out)) fail(s, PADDING);
        m.element_out += count;
        const bool last = m.element_out == GG_O_ELEMENTS;
        if (GG_AXI && bool(top.o_last) != last) fail(s, LAST);
        if (last) {
            m.element_out = 0;
            s.outputs += GG_O_ELEMENTS;
            *s.frame_ends++ = s.cycle;
        }
    }
    m.edge();
    ++s.cycle;
}

}  // namespace

extern "C" {

GG_EXPORT Simulation *gg_create() { return new Model; }

// Feeds the load stream for at most `budget` cycles; done when loaded == load_bytes.
GG_EXPORT void gg_load(Simulation *model, State *s, int64_t budget) {
    Vgg_top &top = *model->top;
    for (; budget > 0 && s->loaded < s->load_bytes; --budget, ++s->load_cycle) {
        top.load_valid = 1;
        top.load_payload = s->load[s->loaded];
        model->settle();
        if (top.load_ready) ++s->loaded;
        model->edge();
    }
    top.load_valid = 0;
}

// Runs until all outputs arrived, something is wrong, or `budget` cycles are over.
GG_EXPORT void gg_run(Simulation *model, State *s, int64_t budget) {
    auto *m = static_cast<Model *>(model);
    const int64_t beats_in = s->samples * ((GG_I_ELEMENTS + GG_I_LANES - 1) / GG_I_LANES);
    const int64_t beats_out = s->samples * ((GG_O_ELEMENTS + GG_O_LANES - 1) / GG_O_LANES);
    for (; budget > 0 && s->taken < beats_out && s->fault == NONE; --budget) step(*m, *s, beats_in);
}

}  // extern "C"
