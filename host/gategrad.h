/* gategrad.h - a gategrad board, called from C: images in, classes out, learning, weights back.
 *
 * To be included, gategrad_link.h beside it: C99 or C++; no allocation, no floating point, no
 * library, no system calls. What it needs is in callbacks (gg_io): bytes in, bytes out. The protocol
 * is in docs/link.md.
 *
 *     static uint8_t space[GG_SPACE(1024)];      8 bytes more than the longest reply
 *     gg_device board;
 *     gg_init(&board, &io, 1000000, space, sizeof space);
 *     if (gg_identify(&board) == GG_OK && gg_infer(&board, frame, &which) == GG_OK) use(which);
 *
 * RAM: a gg_device (less than 256 bytes), the space, and less than 640 bytes of stack. The space
 * needs GG_SPACE(n) for the longest reply: n = 28 for all but these: gg_result_bytes() of the
 * model for inference and learning, 6 a counter, and up to 1024 for gg_read.
 *
 * A reply counts only if its CRC, type, length and sequence number are right and if the class is
 * that of the largest output; anything else is asked for again, gg_device.retries times. No wait is
 * without an end: each attempt takes at most gg_device.timeout_ms of silence, besides the time on
 * the line, and 0.1 s before the next (1 s where noise does not end); coming back from the fast rate
 * takes up to 4 s more.
 *
 * A gg_device is for one thread. Functions return GG_OK or say why not; gg_message() has words.
 */
#ifndef GATEGRAD_H
#define GATEGRAD_H

#include "gategrad_link.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Prepare `d`. `baud`: of the device, from build.json, bits per second; 0 where time on the line
 * does not count. `space`: `size` bytes that stay with the device, GG_SPACE(...). */
static inline void gg_init(gg_device *d, const gg_io *io, uint32_t baud, uint8_t *space,
                           uint32_t size)
{
    uint8_t *byte = (uint8_t *)d;
    for (size_t k = 0; k < sizeof *d; ++k) byte[k] = 0;
    d->io = *io;
    d->baud = d->normal_baud = baud;
    d->space = space;
    d->size = size;
    d->limit = GG_IDENTITY_BYTES;
    d->timeout_ms = 1000;
    d->retries = 3;
    /* Replies to a host that was switched off must not fit ours. */
    d->sequence = (uint8_t)gg_now(d);
}

/* Bytes of a frame of inputs; of a result: the raw outputs and the class. */
static inline uint32_t gg_input_bytes(const gg_identity *i)
{
    return (uint32_t)i->inputs * ((i->input_bits + 7u) / 8);
}

static inline uint32_t gg_result_bytes(const gg_identity *i)
{
    return (uint32_t)i->outputs * ((i->output_bits + 7u) / 8) + (i->outputs > 256 ? 2u : 1u);
}

/* ---- Requests, when nothing is in flight -------------------------------------------------- */

/* Send, wait, and repeat as often as allowed. */
static inline gg_code gg_request(gg_device *d, uint8_t kind, const uint8_t *payload,
                                 uint16_t length, uint16_t expected)
{
    gg_awake(d, 0);
    for (unsigned attempt = 0;; ++attempt) {
        const gg_code code = gg_once(d, kind, payload, length, expected, gg_patience(d, length));
        if (code == GG_OK || code == GG_IO || code == GG_SMALL || attempt == d->retries)
            return code;
        gg_mend(d, code);
    }
}

/* Whether a device answers. */
static inline gg_code gg_ping(gg_device *d)
{
    if (d->size < GG_SPACE(GG_IDENTITY_BYTES)) return GG_SMALL;
    return d->in_flight ? GG_IN_FLIGHT : gg_request(d, 1, NULL, 0, 0);
}

/* From how many samples the device has learned; asks it. */
static inline gg_code gg_ask_turn(gg_device *d, uint64_t *learned)
{
    const uint16_t bytes = (uint16_t)(GG_COUNTER_BYTES * d->identity.counters);
    const gg_code code = gg_request(d, 7, NULL, 0, bytes);
    if (code == GG_OK)
        *learned = gg_number(d->space + 6 + GG_COUNTER_BYTES * GG_LEARNED, GG_COUNTER_BYTES);
    return code;
}

/* What the device has counted since its weights were set, when it is at rest, into `values`:
 * `count` of them (those that it does not have are 0). A device that learns is then in step: the
 * next sample is that of number values[GG_LEARNED], from 0. */
static inline gg_code gg_counters(gg_device *d, uint64_t *values, unsigned count)
{
    gg_code code;
    if (!d->known) return GG_UNKNOWN;
    if (d->in_flight) return GG_IN_FLIGHT;
    if (!d->identity.counters) return GG_ABSENT;
    code = gg_ask_turn(d, &d->turn);
    d->in_step = code == GG_OK;
    for (unsigned k = 0; k < count; ++k)
        values[k] = code == GG_OK && k < d->identity.counters
                        ? gg_number(d->space + 6 + GG_COUNTER_BYTES * k, GG_COUNTER_BYTES) : 0;
    return code;
}

/* Ask what the device is, into d->identity; of one that learns, also where it is. */
static inline gg_code gg_identify(gg_device *d)
{
    gg_identity *i = &d->identity;
    const uint8_t *p;
    uint32_t longest = GG_IDENTITY_BYTES, result, counted;
    gg_code code;
    if (d->size < GG_SPACE(GG_IDENTITY_BYTES)) return GG_SMALL;
    if (d->in_flight) return GG_IN_FLIGHT;
    d->known = 0;
    code = gg_request(d, 2, NULL, 0, GG_IDENTITY_BYTES);
    if (code != GG_OK) return code;
    p = d->space + 6;
    i->version = p[0];
    if (i->version != GG_LINK_VERSION) return GG_VERSION;
    i->loaded = p[1] >> 1 & 1;
    i->output_signed = p[1] >> 2 & 1;
    i->input_signed = p[1] >> 3 & 1;
    i->readable = p[1] >> 5 & 1;
    i->written = p[1] >> 6 & 1;
    for (unsigned k = 0; k < 8; ++k) i->model[k] = p[2 + k];
    i->inputs = (uint16_t)gg_number(p + 10, 2);
    i->input_bits = p[12];
    i->outputs = (uint16_t)gg_number(p + 13, 2);
    i->output_bits = p[15];
    i->load_bytes = (uint32_t)gg_number(p + 16, 4);
    i->classes = (uint16_t)gg_number(p + 20, 2);
    i->counters = p[22];
    i->fast_baud = p[23] * 100000u;
    i->clock_hz = (uint32_t)gg_number(p + 24, 4);
    result = gg_result_bytes(i);
    if (!i->inputs || !i->outputs || !i->input_bits || i->input_bits > 16 || !i->output_bits ||
        i->output_bits > 64 || gg_input_bytes(i) > 0xFFFF - 2 || result > 0xFFFF - 8 ||
        (i->classes && i->counters <= GG_LEARNED))
        return GG_STRANGE;
    if (result > longest) longest = result;
    counted = (uint32_t)GG_COUNTER_BYTES * i->counters;
    if (counted > longest) longest = counted;
    if (i->readable && longest < GG_PIECE) longest = GG_PIECE;
    d->limit = (uint16_t)(GG_SPACE(longest) <= d->size ? longest : d->size - 8);
    d->known = 1;
    return i->classes ? gg_counters(d, NULL, 0) : GG_OK;
}

/* GG_MODEL unless the device was made from the model with this hash, its first 8 bytes. */
static inline gg_code gg_expect(const gg_device *d, const uint8_t *hash8)
{
    if (!d->known) return GG_UNKNOWN;
    for (unsigned k = 0; k < 8; ++k)
        if (d->identity.model[k] != hash8[k]) return GG_MODEL;
    return GG_OK;
}

/* Go to the fast rate if the device and the port have one; d->baud then says what is in use. The
 * device leaves it after half a second without a request, and is then asked for it again. */
static inline gg_code gg_speed_up(gg_device *d)
{
    if (!d->known) return GG_UNKNOWN;
    if (d->in_flight) return GG_IN_FLIGHT;
    if (d->io.set_baud && d->identity.fast_baud > d->baud) gg_quicken(d);
    return gg_ping(d);
}

/* Back to the normal rate, both ends at once; before leaving, so that the next host is heard. */
static inline gg_code gg_speed_down(gg_device *d)
{
    const uint8_t zero = 0;
    if (d->in_flight) return GG_IN_FLIGHT;
    d->fast = 0;
    if (d->baud == d->normal_baud) return GG_OK;
    /* Without an answer it may have gone or not: then it goes by itself. */
    (void)gg_once(d, 8, &zero, 1, 0, gg_patience(d, 1));
    return gg_change(d, d->normal_baud) ? GG_OK : GG_IO;
}

/* ---- Inference and learning --------------------------------------------------------------- */

/* The request of `p`, whatever came of it before. */
static inline gg_code gg_submit(gg_device *d, gg_pending *p)
{
    const uint8_t label[2] = {(uint8_t)p->label, (uint8_t)(p->label >> 8)};
    const uint16_t bytes = (uint16_t)gg_input_bytes(&d->identity);
    p->sequence = p->learns ? (uint8_t)p->turn : d->sequence++;
    p->sent = 1;
    gg_begin(d, p->learns ? 5 : 3, p->sequence, (uint16_t)(bytes + (p->learns ? 2 : 0)));
    gg_put(d, p->frame, bytes);
    if (p->learns) gg_put(d, label, 2);
    return gg_end(d);
}

/* Something that is no sample behind a single one: half a pair does not wait for its partner then. */
static inline gg_code gg_nudge(gg_device *d)
{
    return gg_send(d, 1, d->sequence++, NULL, 0);
}

/* Send what is not sent yet. */
static inline gg_code gg_pump(gg_device *d)
{
    gg_code code = GG_OK;
    for (unsigned k = 0; k < d->in_flight && !(k && d->slow) && code == GG_OK; ++k)
        if (!d->queue[k].sent && !d->queue[k].lost) code = gg_submit(d, &d->queue[k]);
    return code;
}

/* After a failure that ends all. */
static inline gg_code gg_abandon(gg_device *d, gg_code code)
{
    d->in_flight = d->in_step = 0;
    return code;
}

static inline gg_code gg_start(gg_device *d, const uint8_t *frame, uint8_t learns, uint16_t label)
{
    gg_pending *p = &d->queue[d->in_flight];
    gg_code code;
    if (!d->known) return GG_UNKNOWN;
    if (!d->identity.loaded) return GG_NOT_LOADED;
    if (GG_SPACE(gg_result_bytes(&d->identity)) > d->size) return GG_SMALL;
    if (d->in_flight == 2) return GG_IN_FLIGHT;
    if (learns && !d->identity.classes) return GG_ABSENT;
    if (learns && label >= d->identity.classes) return GG_LABEL;
    if (learns && !d->in_step) return GG_OUT_OF_STEP;
    if (!d->in_flight) gg_awake(d, 0);
    p->frame = frame;
    p->turn = d->turn;
    p->label = label;
    p->learns = learns;
    p->sent = p->lost = 0;
    ++d->in_flight;
    d->turn += learns;
    code = gg_pump(d);
    return code ? gg_abandon(d, code) : GG_OK;
}

/* Ask for the class of `frame`, gg_input_bytes() long, which has to stay there until gg_finish has
 * answered. Up to two requests can be in flight, which keeps the line busy. A core that computes
 * samples in pairs answers a single one 0.1 s late, the first time after timeout_ms. */
static inline gg_code gg_infer_start(gg_device *d, const uint8_t *frame)
{
    return gg_start(d, frame, 0, 0);
}

/* The same for a sample to learn from. GG_OUT_OF_STEP, when something went wrong before: ask
 * gg_counters, which says how many have been learned, and go on from there. */
static inline gg_code gg_train_start(gg_device *d, const uint8_t *frame, uint16_t label)
{
    return gg_start(d, frame, 1, label);
}

/* Raw output `k` of the last result; until the next call for this device, then 0. */
static inline int64_t gg_output(const gg_device *d, unsigned k)
{
    const unsigned bytes = (d->identity.output_bits + 7u) / 8;
    uint64_t value, sign;
    if (!d->result || k >= d->identity.outputs) return 0;
    value = gg_number(d->result + (size_t)k * bytes, bytes);
    sign = (uint64_t)d->identity.output_signed << (8 * bytes - 1);
    value = (value ^ sign) - sign;
    /* To signed without relying on what the compiler makes of it. */
    return value >> 63 ? -(int64_t)(UINT64_MAX - value) - 1 : (int64_t)value;
}

/* Whether the result in the space is one: its class is that of the largest output. */
static inline gg_code gg_judge(gg_device *d, uint16_t *which)
{
    const uint32_t bytes = gg_result_bytes(&d->identity), tail = d->identity.outputs > 256 ? 2 : 1;
    unsigned best = 0;
    d->result = d->space + 6;
    for (unsigned k = 1; k < d->identity.outputs; ++k)
        if (gg_output(d, k) > gg_output(d, best)) best = k;
    if (gg_number(d->result + bytes - tail, (unsigned)tail) != best) {
        d->result = NULL;
        return GG_STRANGE;
    }
    if (which) *which = (uint16_t)best;
    return GG_OK;
}

/* Take the oldest out of the queue. */
static inline gg_code gg_retire(gg_device *d, gg_code code)
{
    d->queue[0] = d->queue[1];
    --d->in_flight;
    return code;
}

/* Where a device that learns is: which samples it has learned from must not be sent again. */
static inline gg_code gg_find(gg_device *d)
{
    uint64_t done = 0;
    unsigned k, learns = 0;
    gg_code code;
    for (k = 0; k < d->in_flight; ++k) learns |= d->queue[k].learns;
    if (!learns) return GG_OK;
    code = gg_ask_turn(d, &done);
    if (code != GG_OK) return code;
    if (done < d->queue[0].turn || done > d->turn) return GG_OUT_OF_STEP;
    for (k = 0; k < d->in_flight; ++k) d->queue[k].lost = d->queue[k].turn < done;
    return GG_OK;
}

/* The answer to the oldest request in flight: its class into `which` (NULL: not wanted), its raw
 * outputs by gg_output(). What the device answers to a sample to learn from is as it was before.
 *
 * GG_LOST: the device has learned from the sample, or from later ones, and the result cannot be had
 * again; go on. After any other error nothing is in flight any more, and how far learning has come
 * is for gg_counters to say. */
static inline gg_code gg_finish(gg_device *d, uint16_t *which)
{
    gg_pending *p = &d->queue[0];
    int nudged = 0;
    gg_code code;
    if (!d->in_flight) return GG_IDLE;
    d->result = NULL;
    if (p->lost) return gg_retire(d, GG_LOST);
    code = gg_pump(d);
    if (code == GG_OK && d->paired && d->in_flight == 1 && !p->learns) code = gg_nudge(d);
    for (unsigned attempt = 0;; ++attempt) {
        const uint32_t bytes = gg_input_bytes(&d->identity);
        if (code == GG_OK)
            code = gg_reply(d, p->learns ? 5 : 3, p->sequence,
                            (uint16_t)gg_result_bytes(&d->identity), gg_patience(d, bytes));
        if (code == GG_OK) code = gg_judge(d, which);
        if (code == GG_OK) {
            if (nudged) d->paired = 1;
            return gg_retire(d, GG_OK);
        }
        if (code == GG_IO || code == GG_SMALL) return gg_abandon(d, code);
        gg_mend(d, code);
        d->queue[0].sent = d->queue[1].sent = 0;
        if (code == GG_NOT_LOADED) {
            d->identity.loaded = 0; /* noise that looked like a LOAD */
            return gg_abandon(d, code);
        }
        {
            const gg_code found = gg_find(d);
            if (found != GG_OK) return gg_abandon(d, found);
        }
        if (p->lost) return gg_retire(d, GG_LOST);
        if (attempt == d->retries) return gg_abandon(d, code);
        nudged = code == GG_NO_ANSWER && !p->learns;
        code = gg_submit(d, p); /* alone; the other follows with the next call */
        if (code == GG_OK && nudged) code = gg_nudge(d);
    }
}

/* The class of one frame. */
static inline gg_code gg_infer(gg_device *d, const uint8_t *frame, uint16_t *which)
{
    const gg_code code = d->in_flight ? GG_IN_FLIGHT : gg_infer_start(d, frame);
    return code ? code : gg_finish(d, which);
}

/* Learn from one sample; its class as it was before. */
static inline gg_code gg_train(gg_device *d, const uint8_t *frame, uint16_t label, uint16_t *which)
{
    const gg_code code = d->in_flight ? GG_IN_FLIGHT : gg_train_start(d, frame, label);
    return code ? code : gg_finish(d, which);
}

/* ---- Weights ------------------------------------------------------------------------------ */

/* Bytes `address` to `address + count` of the weight image into `buffer`, at once, and again if
 * asked; 0, or anything else for an error, which ends it with GG_IO. */
typedef int (*gg_source)(void *context, uint32_t address, uint8_t *buffer, uint16_t count);
/* The bytes of the weight image at `address`, up to 1024, in order; returns as gg_source. */
typedef int (*gg_sink)(void *context, uint32_t address, const uint8_t *data, uint16_t count);

static inline gg_code gg_load_piece(gg_device *d, gg_source source, void *context, uint32_t address)
{
    const uint32_t rest = d->identity.load_bytes - address;
    const uint16_t bytes = (uint16_t)(rest < GG_PIECE ? rest : (uint32_t)GG_PIECE);
    const uint8_t sequence = d->sequence++;
    uint8_t some[64];
    gg_code code;
    for (unsigned k = 0; k < 4; ++k) some[k] = (uint8_t)(address >> 8 * k);
    gg_begin(d, 4, sequence, (uint16_t)(bytes + 4));
    gg_put(d, some, 4);
    for (uint16_t done = 0, part; done < bytes; done = (uint16_t)(done + part)) {
        part = (uint16_t)(bytes - done < (int)sizeof some ? bytes - done : (int)sizeof some);
        if (source(context, address + done, some, part)) return GG_IO;
        gg_put(d, some, part);
    }
    code = gg_end(d);
    return code ? code : gg_reply(d, 4, sequence, 0, gg_patience(d, bytes));
}

/* Fill the device's weight memory from `source`. After an error all of the image is sent again:
 * until all of it has arrived the device refuses to infer. Learning starts afresh. */
static inline gg_code gg_load_from(gg_device *d, gg_source source, void *context)
{
    gg_code code;
    if (!d->known) return GG_UNKNOWN;
    if (d->in_flight) return GG_IN_FLIGHT;
    if (!d->identity.load_bytes) return GG_ABSENT;
    gg_awake(d, 0);
    for (unsigned attempt = 0;; ++attempt) {
        uint32_t address = 0;
        do {
            code = gg_load_piece(d, source, context, address);
            address += GG_PIECE;
        } while (code == GG_OK && address < d->identity.load_bytes && address >= GG_PIECE);
        if (code == GG_OK) break;
        if (code == GG_IO || attempt == d->retries) return code;
        gg_mend(d, code);
    }
    code = gg_identify(d);
    return code != GG_OK || d->identity.loaded ? code : GG_NOT_LOADED;
}

/* The weights as they are in the device, which comes to rest first, piece by piece to `sink`. */
static inline gg_code gg_read_to(gg_device *d, gg_sink sink, void *context)
{
    uint32_t address = 0;
    if (!d->known) return GG_UNKNOWN;
    if (d->in_flight) return GG_IN_FLIGHT;
    if (!d->identity.readable) return GG_ABSENT;
    for (; address < d->identity.load_bytes; address += GG_PIECE) {
        const uint32_t rest = d->identity.load_bytes - address;
        const uint16_t bytes = (uint16_t)(rest < GG_PIECE ? rest : (uint32_t)GG_PIECE);
        uint8_t where[4];
        gg_code code;
        for (unsigned k = 0; k < 4; ++k) where[k] = (uint8_t)(address >> 8 * k);
        code = gg_request(d, 6, where, 4, bytes);
        if (code != GG_OK) return code;
        if (sink(context, address, d->space + 6, bytes)) return GG_IO;
        if (rest <= GG_PIECE) break;
    }
    return GG_OK;
}

static inline int gg_from_memory(void *image, uint32_t address, uint8_t *buffer, uint16_t count)
{
    const uint8_t *from = *(const uint8_t **)image + address;
    for (uint16_t k = 0; k < count; ++k) buffer[k] = from[k];
    return 0;
}

static inline int gg_to_memory(void *image, uint32_t address, const uint8_t *data, uint16_t count)
{
    for (uint16_t k = 0; k < count; ++k) ((uint8_t *)image)[address + k] = data[k];
    return 0;
}

/* The same from and to memory; `size`: bytes of the image, GG_SIZE if the device's is another. */
static inline gg_code gg_load(gg_device *d, const uint8_t *image, uint32_t size)
{
    if (d->known && size != d->identity.load_bytes) return GG_SIZE;
    return gg_load_from(d, gg_from_memory, &image);
}

static inline gg_code gg_read(gg_device *d, uint8_t *image, uint32_t size)
{
    if (d->known && size != d->identity.load_bytes) return GG_SIZE;
    return gg_read_to(d, gg_to_memory, image);
}

#ifdef __cplusplus
}
#endif
#endif
