/* gategrad.h against a device and a line of its own, with a clock that no time passes on:
 *
 *     host_line lie SEED FAULTS SAMPLES     a line with so many faults in 65,536 bytes
 *     host_line pairs SEED FAULTS SAMPLES   a device that computes samples in pairs
 *     host_line reset SEED FAULTS SAMPLES   a device that starts again after so many
 *     host_line hostile SEED 0 CALLS        a peer that says what it likes, with right CRCs too
 *
 * Prints what happened; ends with 1 where a result was wrong, repeated, or learned twice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../host/gategrad.h"

enum { INPUTS = 5, OUTPUTS = 3, CLASSES = 4, COUNTERS = 7, NORMAL = 1000000, FAST = 3000000 };

static uint64_t state;
static unsigned chance(unsigned below) /* xorshift64* */
{
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (unsigned)((state * 0x2545F4914F6CDD1DULL) >> 33) % below;
}

static unsigned faults, now, hostile, pairs;
static gg_device d;

/* What a device that has learned `weights` answers, and what it has learned then. */
static void answer(uint32_t weights, const uint8_t *frame, uint8_t *result)
{
    int best = 0, value[OUTPUTS];
    for (int k = 0; k < OUTPUTS; ++k) {
        uint32_t sum = weights * (2u * (uint32_t)k + 1);
        for (int j = 0; j < INPUTS; ++j) sum = (sum ^ frame[j]) * 0x01000193u;
        value[k] = (int)(sum >> 12) - (1 << 19);
        if (value[k] > value[best]) best = k;
        for (int j = 0; j < 3; ++j) result[3 * k + j] = (uint8_t)((uint32_t)value[k] >> 8 * j);
    }
    result[3 * OUTPUTS] = (uint8_t)best;
}

static uint32_t learn(uint32_t weights, const uint8_t *frame, unsigned label)
{
    for (int j = 0; j < INPUTS; ++j) weights = (weights ^ frame[j]) * 0x01000193u;
    return (weights ^ label) * 0x01000193u;
}

/* The device and the line to the host. */
static struct {
    uint8_t in[64], out[1 << 16];
    unsigned have, first, last, byte_at, right_at, baud, host_baud;
    uint32_t weights;
    uint64_t learned;
    /* The first of a pair. */
    unsigned half;
    uint8_t held[INPUTS], held_sequence;
} dev;

static void out(uint8_t byte)
{
    if (chance(65536) < faults) return;
    if (chance(65536) < faults) byte = (uint8_t)(byte ^ 1u << chance(8));
    if (chance(65536) < faults) dev.out[dev.last++ % sizeof dev.out] = (uint8_t)chance(256);
    dev.out[dev.last++ % sizeof dev.out] =
        dev.baud == dev.host_baud ? byte : (uint8_t)chance(256);
}

static void reply(uint8_t kind, uint8_t sequence, const uint8_t *payload, unsigned length)
{
    uint16_t crc = 0xFFFF;
    const uint8_t header[6] = {0xA5, 0x5A, kind, sequence, (uint8_t)length, (uint8_t)(length >> 8)};
    for (unsigned k = 0; k < 6 + length; ++k) {
        const uint8_t byte = k < 6 ? header[k] : payload[k - 6];
        if (k >= 2) crc = gg_crc(crc, byte);
        out(byte);
    }
    out((uint8_t)crc);
    out((uint8_t)(crc >> 8));
}

static void refuse(uint8_t code)
{
    reply(0x80, dev.in[3], &code, 1);
    dev.have = 0;
}

static void obey(unsigned length)
{
    const uint8_t kind = dev.in[2], sequence = dev.in[3], *payload = dev.in + 6;
    uint8_t said[64] = {0};
    dev.right_at = now;
    dev.have = 0;
    if (pairs && kind == 3 && !dev.half) {
        dev.half = 1;
        dev.held_sequence = sequence;
        memcpy(dev.held, payload, INPUTS);
        return;
    }
    if (dev.half) { /* its partner came, or zeros in place of it */
        dev.half = 0;
        answer(dev.weights, dev.held, said);
        reply(0x83, dev.held_sequence, said, 3 * OUTPUTS + 1);
    }
    if (kind == 2) {
        const uint8_t is[GG_IDENTITY_BYTES] = {2, 0x36, 1, 2, 3, 4, 5, 6, 7, 8, INPUTS, 0, 8,
            OUTPUTS, 0, 24, 0, 0, 0, 0, CLASSES, 0, COUNTERS, FAST / 100000};
        reply(0x82, sequence, is, sizeof is);
    } else if (kind == 7) {
        for (int k = 0; k < 6; ++k) said[6 + k] = (uint8_t)(dev.learned >> 8 * k);
        reply(0x87, sequence, said, 6 * COUNTERS);
    } else if (kind == 3 || kind == 5) {
        if (kind == 5 && payload[INPUTS] >= CLASSES) { refuse(10); return; }
        answer(dev.weights, payload, said);
        if (kind == 5) {
            dev.weights = learn(dev.weights, payload, payload[INPUTS]);
            ++dev.learned;
        }
        reply((uint8_t)(0x80 | kind), sequence, said, 3 * OUTPUTS + 1);
    } else {
        reply((uint8_t)(0x80 | kind), sequence, NULL, 0);
        if (kind == 8 && length) dev.baud = payload[0] ? FAST : NORMAL;
    }
}

static void pass_time(void)
{
    if (dev.have && now - dev.byte_at > 45) {
        if (dev.have >= 6) refuse(4);
        dev.have = 0;
    }
    if (now - dev.right_at > 750) dev.baud = NORMAL;
}

static void in(uint8_t byte)
{
    static const unsigned lengths[9] = {0, 0, 0, INPUTS, 9999, INPUTS + 2, 9999, 0, 1};
    unsigned length;
    uint16_t crc = 0xFFFF;
    pass_time();
    dev.byte_at = now;
    if (dev.have == 0 && byte != 0xA5) return;
    if (dev.have == 1 && byte != 0x5A) { dev.have = byte == 0xA5; return; }
    dev.in[dev.have++] = byte;
    if (dev.have < 6) return;
    length = dev.in[4] | (unsigned)dev.in[5] << 8;
    if (dev.in[2] == 0 || dev.in[2] > 8) { refuse(2); return; }
    if (length != lengths[dev.in[2]]) { refuse(3); return; }
    if (dev.in[2] == 5 && dev.in[3] != (uint8_t)dev.learned) { refuse(9); return; }
    if (dev.have < length + 8) return;
    for (unsigned k = 2; k < length + 8; ++k) crc = gg_crc(crc, dev.in[k]);
    if (crc) refuse(1);
    else obey(length);
}

/* A peer that means harm: what it says fits the last request more or less. */
static void lie(const uint8_t *request)
{
    static uint8_t said[1 << 16];
    static const uint16_t sizes[] = {0, 1, 10, 28, 42, 1024, 1025, 65535};
    const uint8_t kind = request[2];
    unsigned size = sizes[chance(8)];
    for (unsigned k = 0; k < sizeof said; ++k) said[k] = (uint8_t)chance(256);
    for (unsigned k = chance(20); k; --k) out((uint8_t)chance(256));
    if (kind == 2 && chance(4)) {
        static const uint8_t widths[] = {0, 1, 8, 16, 17, 64, 65, 255};
        size = GG_IDENTITY_BYTES;
        if (chance(8)) said[0] = 2;
        if (chance(2)) said[10] = INPUTS, said[11] = 0;
        if (chance(2)) said[12] = widths[chance(8)];
        if (chance(2)) said[13] = (uint8_t)(1 + chance(5)), said[14] = 0;
        if (chance(2)) said[15] = widths[chance(8)];
        if (chance(2)) said[16] = (uint8_t)chance(3), said[17] = (uint8_t)chance(9);
        if (chance(4)) said[18] = said[19] = 0;
        said[1] |= (uint8_t)(chance(4) ? 0x22 : 0);
        if (chance(2)) said[22] = (uint8_t)chance(9);
    }
    if ((kind == 3 || kind == 5) && chance(4)) size = gg_result_bytes(&d.identity) & 0xFFFF;
    if (kind == 7 && chance(2)) memset(said, 0, 64), size = 6 * COUNTERS;
    if (kind == 4 || kind == 8 || kind == 1) size = chance(4) ? 0 : size;
    reply(chance(6) ? (uint8_t)(0x80 | (chance(8) ? kind : chance(256))) : 0x80,
          chance(8) ? request[3] : (uint8_t)chance(256), said, size);
}

static int32_t line_read(void *context, uint8_t *buffer, uint16_t count, uint32_t timeout)
{
    int32_t came = 0;
    (void)context;
    if (dev.first == dev.last) now += timeout;
    pass_time();
    if (hostile && chance(2000) == 0) return chance(2) ? -1 : (int32_t)count + 1;
    for (; came < count && dev.first != dev.last && chance(50); ++came)
        buffer[came] = dev.out[dev.first++ % sizeof dev.out];
    return came;
}

static int line_write(void *context, const uint8_t *data, uint16_t count)
{
    static uint8_t request[8];
    static unsigned at;
    (void)context;
    for (unsigned k = 0; k < count; ++k) {
        uint8_t byte = data[k];
        if (hostile) {
            if (byte == 0xA5 && count == 2) at = 0;
            if (at < 8) request[at++] = byte;
            continue;
        }
        if (chance(65536) < faults) continue;
        if (chance(65536) < faults) byte = (uint8_t)(byte ^ 1u << chance(8));
        if (chance(65536) < faults) in((uint8_t)chance(256));
        in(dev.baud == dev.host_baud ? byte : (uint8_t)chance(256));
    }
    if (hostile && at >= 8 && chance(2)) lie(request);
    return hostile && chance(3000) == 0;
}

static int line_baud(void *context, uint32_t baud)
{
    (void)context;
    dev.host_baud = baud;
    return hostile && chance(20) == 0;
}

static uint32_t line_clock(void *context)
{
    (void)context;
    return now;
}

static int refused(void *context, uint32_t address, const uint8_t *data, uint16_t count)
{
    (void)context;
    return address + data[count - 1] == 77;
}

static int bytes(void *context, uint32_t address, uint8_t *data, uint16_t count)
{
    (void)context;
    memset(data, (int)address, count);
    return chance(50) == 0;
}

static void attack(const uint8_t *space, unsigned calls)
{
    static uint8_t frame[1 << 17];
    uint64_t values[9];
    uint16_t which;
    unsigned fine = 0;
    while (calls--) {
        gg_code code;
        which = 0xFFFF;
        switch (chance(11)) {
        case 0: code = gg_ping(&d); break;
        case 1: case 2: code = gg_identify(&d); break;
        case 3:
            code = gg_counters(&d, values, 9);
            if (code == GG_OK && gg_number(space + 4, 2) != 6u * d.identity.counters) exit(1);
            break;
        case 4: code = gg_speed_up(&d); break;
        case 5: code = gg_speed_down(&d); break;
        case 6: code = gg_read_to(&d, refused, NULL); break;
        case 7:
            code = d.identity.load_bytes < 1 << 16 ? gg_load_from(&d, bytes, NULL) : GG_OK;
            break;
        case 8: code = gg_infer_start(&d, frame); break;
        case 9: code = gg_train_start(&d, frame, (uint16_t)chance(9)); break;
        default:
            code = gg_finish(&d, &which);
            if (code != GG_OK) break;
            if (which >= d.identity.outputs || !d.result) exit(1);
            if (gg_number(space + 4, 2) != gg_result_bytes(&d.identity)) exit(1);
            for (unsigned k = 0; k < d.identity.outputs; ++k)
                if (gg_output(&d, k) > gg_output(&d, which)) exit(1);
            for (unsigned k = 0; k < 70000; k += 999) fine += gg_output(&d, k) != 0;
        }
        if (d.in_flight > 2 || !strcmp(gg_message(code), "an unknown code")) exit(1);
        fine += code == GG_OK;
        dev.first = dev.last; /* at most what the terminal holds */
    }
    printf("calls that succeeded: %u\n", fine);
}

int main(int count, char **words)
{
    static uint8_t frames[4096][INPUTS], space[GG_SPACE(64)];
    /* Number of samples sent so far that learn; of those, weights before each. */
    static uint32_t weights[1 << 20];
    const gg_io io = {NULL, line_read, line_write, line_baud, line_clock};
    unsigned samples, right = 0, lost = 0, failed = 0, done = 0, reset;
    struct { unsigned turn, frame; } sent[2];
    if (count != 5) return 3;
    state = strtoull(words[2], NULL, 10) * 2 + 1;
    faults = (unsigned)atoi(words[3]);
    samples = (unsigned)atoi(words[4]);
    hostile = !strcmp(words[1], "hostile");
    pairs = !strcmp(words[1], "pairs");
    reset = !strcmp(words[1], "reset");
    dev.baud = dev.host_baud = NORMAL;
    weights[0] = dev.weights = 1;
    for (unsigned k = 0; k < 4096; ++k)
        for (unsigned j = 0; j < INPUTS; ++j) frames[k][j] = (uint8_t)chance(256);
    if (hostile) {
        /* Of exactly the size, so that a sanitiser sees what is written beyond. */
        uint8_t *exact = (uint8_t *)malloc(GG_SPACE(1024));
        gg_init(&d, &io, NORMAL, exact, GG_SPACE(1024));
        d.timeout_ms = 50;
        d.retries = 1;
        attack(exact, samples);
        free(exact);
        return 0;
    }
    gg_init(&d, &io, NORMAL, space, sizeof space);
    d.retries = 10;
    if (gg_identify(&d) || gg_speed_up(&d)) return 2;
    while (done < samples) {
        gg_code code = GG_OK;
        if (!chance(200)) now += chance(2000);
        while (code == GG_OK && d.in_flight < 1 + chance(2)) {
            const unsigned frame = chance(4096), turn = (unsigned)d.turn;
            sent[d.in_flight].turn = turn;
            sent[d.in_flight].frame = frame;
            if (!pairs && chance(4)) {
                weights[turn + 1] = learn(weights[turn], frames[frame], frame % CLASSES);
                code = gg_train_start(&d, frames[frame], (uint16_t)(frame % CLASSES));
            } else {
                code = gg_infer_start(&d, frames[frame]);
            }
        }
        if (code == GG_OK && d.in_flight) {
            uint8_t result[3 * OUTPUTS + 1];
            uint16_t which;
            code = gg_finish(&d, &which);
            ++done;
            lost += code == GG_LOST;
            answer(weights[sent[0].turn], frames[sent[0].frame], result);
            for (unsigned k = 0; code == GG_OK && k < OUTPUTS; ++k) {
                const int32_t value = (int32_t)((uint32_t)gg_number(result + 3 * k, 3) << 8) >> 8;
                if (gg_output(&d, k) != value || which != result[3 * OUTPUTS]) {
                    printf("wrong result\n");
                    return 1;
                }
            }
            right += code == GG_OK;
            sent[0] = sent[1];
        }
        if (code != GG_OK && code != GG_LOST) {
            ++failed;
            for (unsigned k = 0; gg_counters(&d, NULL, 0) != GG_OK; ++k)
                if (k == 100) return 2;
        }
    }
    if (reset) { /* what is learned next is refused: the device is not where the host thinks */
        gg_code code = GG_OK;
        dev.learned = 0;
        for (unsigned k = 0; k < 4 && (code == GG_OK || code == GG_LOST); ++k) {
            if (d.in_flight < 2) code = gg_train_start(&d, frames[k], 0);
            if (code == GG_OK) code = gg_finish(&d, NULL);
        }
        printf("%s\n", gg_message(code));
        return code != GG_OUT_OF_STEP || d.in_flight || dev.learned ||
               gg_train_start(&d, frames[0], 0) != GG_OUT_OF_STEP ||
               gg_counters(&d, NULL, 0) != GG_OK || gg_train(&d, frames[0], 0, NULL) != GG_OK;
    }
    while (d.in_flight) (void)gg_finish(&d, NULL);
    faults = 0;
    if (gg_counters(&d, NULL, 0) != GG_OK) return 2;
    printf("right %u lost %u failed %u repeated %u learned %u baud %u seconds %u\n", right, lost,
           failed, (unsigned)d.repeated, (unsigned)dev.learned, (unsigned)d.baud, now / 1000);
    /* Each once, in order: the weights say so. */
    return d.turn != dev.learned || dev.weights != weights[dev.learned];
}
