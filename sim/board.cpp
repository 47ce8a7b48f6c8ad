// The C++ side of gategrad.sim.board: a board's top level behind a pseudo-terminal.
//
// Bytes that the host writes become bits at the board's pin, as long as the host's baud rate says at
// the board's clock; what the board sends is sampled at that rate too. So a host at another rate
// than the board's sees what it would see of a real one.

#include "harness.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <poll.h>
#include <unistd.h>
#ifdef __linux__
#include <asm/termbits.h>
#include <sys/ioctl.h>
#else
#include <termios.h>
#endif

namespace {

// Mirrors sim/board.py, field by field; Python reads and writes it while the board runs.
struct State {
    double hz;              // of the network's clock
    int64_t master, slave;  // of the pseudo-terminal
    int64_t usual;          // the board's own bits a second, until somebody makes it another rate
    // Cycles without traffic after which the clock stops: at that rate; and since traffic at any
    // other, from which the board goes back by itself.
    int64_t patience, long_patience;
    std::atomic<int64_t> stop;
    // Faults a byte in units of 2**-32, for both directions; `seed` decides which.
    std::atomic<uint64_t> flip, drop, insert, seed;
    std::atomic<int64_t> cycle, received, sent, lost, faults, baud, active;
};

using Clock = std::chrono::steady_clock;

constexpr int64_t LOOK = 512;   // cycles between looks for bytes of the host
constexpr int64_t SLICE = 4096; // cycles at a time at most
constexpr double START = 1e-3;  // seconds from power-on until the host is heard
constexpr double LEAD = 1e-3;   // seconds by which an idle board's time may be ahead of ours
constexpr int SLEEP = 20;       // milliseconds

struct Model : Simulation {
    // From the host to the board: a frame of ten bits that began at cycle `start`.
    bool sending = false;
    double start = 0, length = 1;
    unsigned pattern = 0;
    int bit = 0;
    uint8_t queue[64];
    ssize_t queued = 0, taken = 0;
    // From the board to the host.
    enum { IDLE, FRAME, BREAK } line = IDLE;
    double began = 0, width = 1;
    int sampled = 0;
    unsigned got = 0;
    uint64_t draws = 0;
    // When to look for bytes of the host; since when the lines are quiet, below 0 if they are not.
    int64_t look = 0, quiet = -1;
    // Until when the clock runs because of traffic at another rate.
    int64_t restless = 0;
    Clock::time_point since;

    Model() { top->rx = 1; top->clk = 0; }
    void withdraw() override {}

    void run(State &s);

private:
    // A cycle: what settle() and edge() do, without eval()'s locks, which take half of the time.
    void tick() {
        top->clk = 0;
        Vgg_top___024root___eval(top->rootp);
        top->clk = 1;
        Vgg_top___024root___eval(top->rootp);
    }
    void bits_out(State &s, int64_t now);
    void bits_in(State &s, int64_t now);
    bool fetch(State &s, int64_t now);
    void begin(State &s, double at);
    void deliver(State &s, uint8_t byte);
    bool wait(State &s, int64_t now);
    uint64_t chance(State &s) { return draw(s.seed, draws++); }
    bool fault(State &s, uint64_t share) {
        const bool hit = share && (chance(s) >> 32) < share;
        s.faults += hit;
        return hit;
    }
};

// The bits a second that the host has set. The slave end has the host's settings.
double baud_rate(State &s) {
#ifdef __linux__
    struct termios2 settings;
    const bool known = ioctl(int(s.slave), TCGETS2, &settings) == 0;
    s.baud = known ? settings.c_ospeed : 0;
#else
    struct termios settings;
    s.baud = tcgetattr(int(s.slave), &settings) == 0 ? int64_t(cfgetospeed(&settings)) : 0;
#endif
    return s.baud > 0 ? double(s.baud) : 9600.0;
}

// Whether there is something for the board; it starts at once, or where the last byte ended.
bool Model::fetch(State &s, int64_t now) {
    look = now + LOOK;
    if (taken == queued) {
        taken = 0;
        queued = std::max<ssize_t>(0, read(int(s.master), queue, sizeof queue));
        if (!queued) return false;
    }
    begin(s, double(now));
    return true;
}

// A frame: the start bit, eight bits, the stop bit, lowest first. A fault may be in each of them.
void Model::begin(State &s, double at) {
    start = at;
    length = s.hz / baud_rate(s);
    if (s.baud != s.usual) restless = int64_t(at) + s.long_patience;
    sending = true;
    bit = 0;
    unsigned byte = queue[taken];
    if (fault(s, s.insert)) byte = chance(s) & 0xFF;
    else ++taken;
    pattern = byte << 1 | 1u << 9;
    if (fault(s, s.flip)) pattern ^= 1u << chance(s) % 10;
    if (fault(s, s.drop)) pattern = 0x3FF;
    s.active = 1;
    ++s.received;
}

void Model::bits_out(State &s, int64_t now) {
    while (sending && double(now) >= start + bit * length) {
        if (bit < 10) {
            top->rx = pattern >> bit++ & 1;
            continue;
        }
        sending = false;
        const double end = start + 10 * length;
        // Without a gap if the host has more.
        if (fetch(s, now)) start = end;
    }
}

void Model::deliver(State &s, uint8_t byte) {
    if (fault(s, s.drop)) return;
    if (fault(s, s.flip)) byte ^= 1u << chance(s) % 8;
    uint8_t bytes[2] = {byte, uint8_t(chance(s))};
    const ssize_t count = 1 + fault(s, s.insert);
    // As with a real port, what a host does not fetch is lost once the buffer is full.
    ++s.sent;  // before a host can have seen it
    const ssize_t done = write(int(s.master), bytes, count);
    s.lost += count - std::max<ssize_t>(0, done);
}

void Model::bits_in(State &s, int64_t now) {
    if (line == BREAK && top->tx) line = IDLE;
    if (line == IDLE && !top->tx) {
        line = FRAME;
        began = double(now);
        width = s.hz / baud_rate(s);
        sampled = 0;
        got = 0;
    }
    while (line == FRAME && double(now) >= began + (sampled + 0.5) * width) {
        if (sampled == 0 && top->tx) {
            line = IDLE;  // too short for a start bit
        } else if (sampled == 9) {
            deliver(s, got);  // with a wrong stop bit too, as terminals do
            line = top->tx ? IDLE : BREAK;
        } else {
            if (sampled) got |= unsigned(top->tx) << (sampled - 1);
            ++sampled;
        }
    }
}

// What a board does while there are no bits on its lines: its time passes no faster than ours, and
// stands still after `patience`. False if it may go on now.
bool Model::wait(State &s, int64_t now) {
    if (quiet < 0) {
        quiet = now;
        since = Clock::now();
    }
    const double passed = std::chrono::duration<double>(Clock::now() - since).count();
    const double ahead = double(now - quiet) / s.hz - passed - LEAD;
    const bool rest = now - quiet >= s.patience && now >= restless;
    s.active = !rest;
    if (!rest && ahead <= 0) return false;
    pollfd host{int(s.master), POLLIN, 0};
    poll(&host, 1, rest ? SLEEP : std::min(SLEEP, 1 + int(1e3 * ahead)));
    look = now;
    return true;
}

// Until `stop`: as fast as it goes while there are bits on the lines.
void Model::run(State &s) {
    int64_t now = s.cycle;
    if (!now) look = int64_t(START * s.hz);
    while (!s.stop) {
        if (!sending && now >= look) fetch(s, now);
        bits_out(s, now);
        if (sending || line == FRAME) quiet = -1;
        else if (wait(s, now)) continue;
        // Up to the next cycle in which something may have to be done.
        int64_t until = now + SLICE;
        if (!sending) until = std::min(until, look);
        else until = std::min(until, int64_t(std::ceil(start + bit * length)));
        if (line == FRAME) {
            until = std::min(until, int64_t(std::ceil(began + (sampled + 0.5) * width)));
        }
        const CData level = line == IDLE;
        do {
            tick();
            ++now;
        } while (now < until && (line == FRAME || top->tx == level));
        bits_in(s, now);
        s.cycle = now;
    }
}

}  // namespace

extern "C" {

GG_EXPORT Simulation *gg_create() { return new Model; }

#ifdef GG_FLASH
// Fills the flash from address 0 on.
GG_EXPORT void gg_flash(Simulation *model, const char *bytes, int64_t count) {
    auto &content = model->top->rootp->gg_top__DOT__flash__DOT__content;
    for (int64_t k = 0; k < count; ++k) content[k] = uint8_t(bytes[k]);
}
#endif

// Serves the pseudo-terminal until `stop` is set.
GG_EXPORT void gg_serve(Simulation *model, State *s) { static_cast<Model *>(model)->run(*s); }

}  // extern "C"
