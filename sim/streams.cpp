// The C++ side of gategrad.sim.streams: moves beats through any set of streams, a cycle at a time.
//
// GG_INPUTS, GG_OUTPUTS, GG_SET and GG_GET list the ports of `gg_top` (see sim/streams.py):
// STREAM(name, words) for a stream with a payload of so many 32-bit words, SIGNAL(name) for 64 bits.

#include "harness.h"

namespace {

// Both mirror sim/traffic.py, field by field.
struct Port {
    Word *words;
    int64_t *times;
    int64_t count, moved;
    uint64_t seed, stall;
};

struct State {
    Port *ports;  // inputs, then outputs
    int64_t left, cycle;
    int64_t fault, fault_port, fault_cycle;
};

struct Pins {
    CData *valid, *ready;
    Word *payload;
    size_t words;
    bool busy = false;  // an input's beat is offered; an output's was not taken in the last cycle
    std::vector<Word> held = {};  // what that output then offered

    size_t bytes() const { return words * sizeof(Word); }

    // The complement shows up designs that look at a payload without `valid`.
    void offer_nothing() {
        if (*valid)
            for (size_t k = 0; k < words; ++k) payload[k] = ~payload[k];
        *valid = 0;
    }
};

struct Model : Simulation {
#define STREAM(name, words) {&top->name##_valid, &top->name##_ready, &top->name##_payload[0], words},
#define SIGNAL(name) &top->name,
    std::vector<Pins> inputs = {GG_INPUTS};
    std::vector<Pins> outputs = {GG_OUTPUTS};
    std::vector<QData *> set = {GG_SET}, get = {GG_GET};

    Model() { for (Pins &pins : outputs) pins.held.resize(pins.words); }

    void pause() {
        for (Pins &pins : inputs) pins.offer_nothing();
        for (Pins &pins : outputs) *pins.ready = 0;
    }

    void withdraw() override {
        pause();
        for (Pins &pins : inputs) pins.busy = false;
        for (Pins &pins : outputs) pins.busy = false;
    }
};

bool works(const Port &port, int64_t cycle) {
    if (port.moved >= port.count) return false;
    return !port.stall || (draw(port.seed, uint64_t(cycle)) & 0xFFFFFFFF) >= port.stall;
}

void moved(State &s, Port &port) {
    port.times[port.moved++] = s.cycle;
    --s.left;
}

void step(Model &m, State &s) {
    Port *const outputs = s.ports + m.inputs.size();
    for (size_t k = 0; k < m.inputs.size(); ++k) {
        Pins &pins = m.inputs[k];
        const Port &port = s.ports[k];
        if (pins.busy) continue;
        pins.busy = works(port, s.cycle);
        if (pins.busy) {
            std::memcpy(pins.payload, port.words + port.moved * pins.words, pins.bytes());
            *pins.valid = 1;
        } else {
            pins.offer_nothing();
        }
    }
    for (size_t k = 0; k < m.outputs.size(); ++k) *m.outputs[k].ready = works(outputs[k], s.cycle);
    m.settle();

    for (size_t k = 0; k < m.outputs.size(); ++k) {
        Pins &pins = m.outputs[k];
        Port &port = outputs[k];
        Fault fault = NONE;
        if (pins.busy && !*pins.valid) fault = DROPPED_VALID;
        else if (pins.busy && std::memcmp(pins.held.data(), pins.payload, pins.bytes()))
            fault = CHANGED_PAYLOAD;
        if (fault && !s.fault) {
            s.fault = fault;
            s.fault_port = int64_t(m.inputs.size() + k);
            s.fault_cycle = s.cycle;
        }
        const bool held = pins.busy && !fault;
        pins.busy = *pins.valid && !*pins.ready;
        if (pins.busy && !held) std::memcpy(pins.held.data(), pins.payload, pins.bytes());
        if (*pins.valid && *pins.ready) {
            std::memcpy(port.words + port.moved * pins.words, pins.payload, pins.bytes());
            moved(s, port);
        }
    }
    for (size_t k = 0; k < m.inputs.size(); ++k) {
        Pins &pins = m.inputs[k];
        if (!pins.busy || !*pins.ready) continue;
        pins.busy = false;
        moved(s, s.ports[k]);
    }
    m.edge();
    ++s.cycle;
}

}  // namespace

extern "C" {

GG_EXPORT Simulation *gg_create() { return new Model; }

// Runs until all beats moved, something is wrong, or `cycles` are over; if `idle`, goes on after.
GG_EXPORT void gg_run(Simulation *model, State *s, int64_t cycles, int64_t idle) {
    auto *m = static_cast<Model *>(model);
    for (; cycles > 0 && (s->left > 0 || idle) && s->fault == NONE; --cycles) step(*m, *s);
    if (s->left == 0) m->pause();
}

// Whether output `k` offers a beat.
GG_EXPORT int64_t gg_waiting(Simulation *model, int64_t k) {
    auto *m = static_cast<Model *>(model);
    m->settle();
    return *m->outputs[k].valid;
}

GG_EXPORT void gg_set(Simulation *model, int64_t k, uint64_t value) {
    *static_cast<Model *>(model)->set[k] = value;
}

GG_EXPORT uint64_t gg_get(Simulation *model, int64_t k) {
    model->settle();
    return *static_cast<Model *>(model)->get[k];
}

}  // extern "C"
