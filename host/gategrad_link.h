/* gategrad_link.h - the lower half of gategrad.h: frames, replies, baud rates. Include that.
 *
 * What is of interest here: the codes, the callbacks (gg_io), what a board says of itself
 * (gg_identity), and the public half of gg_device.
 */
#ifndef GATEGRAD_LINK_H
#define GATEGRAD_LINK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of space for replies with a payload of up to `payload` bytes. */
#define GG_SPACE(payload) ((payload) + 8)
/* Bytes of the weight image in a piece, and of IDENTIFY's answer. */
enum { GG_PIECE = 1024, GG_IDENTITY_BYTES = 28, GG_COUNTER_BYTES = 6, GG_LINK_VERSION = 2 };
/* Milliseconds: of waiting at a time; of silence after which a device has given up a frame; in
 * which a device surely keeps the fast rate. */
enum { GG_SLICE = 50, GG_PAUSE = 100, GG_FAST_FOR = 400 };
/* Which counter is which; those of the tensors follow, two for each. */
enum { GG_SEEN, GG_LEARNED, GG_RIGHT, GG_UPDATES, GG_LOSS };

typedef enum gg_code {
    GG_OK = 0,
    /* What the device answered, as in docs/link.md. */
    GG_CRC = 1, GG_TYPE, GG_LENGTH, GG_TIMEOUT, GG_OVERRUN, GG_NOT_LOADED, GG_ADDRESS, GG_BUSY,
    GG_ORDER, GG_LABEL,
    GG_NO_ANSWER = 32, /* nothing right came in time */
    GG_STRANGE,        /* an answer with a right CRC that cannot be */
    GG_IO,             /* a callback reported an error */
    GG_LOST,           /* learned (or its turn is over), but the result did not arrive */
    GG_OUT_OF_STEP,    /* the device was started again or used by another host */
    GG_VERSION,        /* another version of the protocol */
    GG_MODEL,          /* another model than expected */
    GG_UNKNOWN,        /* gg_identify first */
    GG_ABSENT,         /* the device cannot do that */
    GG_SMALL,          /* the space is too small for the reply */
    GG_SIZE,           /* the weight image has another size */
    GG_IN_FLIGHT,      /* gg_finish first */
    GG_IDLE            /* nothing is in flight */
} gg_code;

/* What carries the bytes. `context` is handed back to each function.
 *
 * read: up to `count` bytes into `buffer`, after at most `timeout_ms`; it may return as soon as
 *   some are there. Returns how many, 0 if none came, below 0 for an error.
 * write: send all of the bytes; 0, or anything else for an error. A pause of more than 30 ms inside
 *   a frame makes the device give it up.
 * set_baud: when all has been sent, go to so many bits per second; 0, or anything else if the port
 *   cannot. NULL: the fast rate is not used.
 * milliseconds: a clock that may start anywhere and wraps around at 2**32. NULL: without; then a
 *   fast device that was left alone for long is only noticed when it does not answer, and a peer
 *   that sends single bytes for ever can make a wait last for 4 replies of them. */
typedef struct gg_io {
    void *context;
    int32_t (*read)(void *context, uint8_t *buffer, uint16_t count, uint32_t timeout_ms);
    int (*write)(void *context, const uint8_t *buffer, uint16_t count);
    int (*set_baud)(void *context, uint32_t baud);
    uint32_t (*milliseconds)(void *context);
} gg_io;

/* What IDENTIFY answers. */
typedef struct gg_identity {
    uint8_t version;
    uint8_t model[8];      /* first bytes of the model's hash */
    uint16_t inputs;       /* elements of a frame, of so many bits: a byte each up to 8, else two */
    uint8_t input_bits, input_signed;
    uint16_t outputs;
    uint8_t output_bits, output_signed;
    uint32_t load_bytes;   /* of the weight image, 0: weights are fixed in the bitstream */
    uint8_t loaded;        /* whether inference works now */
    uint8_t readable;      /* whether gg_read works */
    uint8_t written;       /* whether a load was completed since power-up or reset; if it was and
                              is not any more, results are those of other weights */
    uint16_t classes;      /* labels are below; 0: does not learn */
    uint8_t counters;
    uint32_t fast_baud;    /* bits per second, 0: none */
    uint32_t clock_hz;
} gg_identity;

/* A request that has no answer yet. */
typedef struct gg_pending {
    const uint8_t *frame;
    uint64_t turn;         /* samples that the device has learned from when it comes to this one */
    uint16_t label;
    uint8_t learns, sent, lost, sequence;
} gg_pending;

typedef struct gg_device {
    gg_identity identity;
    uint32_t timeout_ms;   /* of waiting for a reply, beyond the time on the line: 1000; more for a
                              core that needs longer for a sample */
    uint8_t retries;       /* further attempts: 3 */
    uint8_t in_flight;     /* requests without an answer, 0 to 2 */
    uint32_t baud;         /* bits per second in use */
    uint32_t repeated;     /* attempts that failed and were repeated */
    /* The rest is the library's own. */
    gg_io io;
    gg_pending queue[2];
    uint8_t *space, *result;
    uint16_t limit, have, taken, crc;
    uint32_t size, normal_baud, heard;
    uint64_t turn;
    uint8_t sequence, known, in_step, slow, fast, broken, paired;
} gg_device;

/* In words. */
static inline const char *gg_message(gg_code code)
{
    switch (code) {
    case GG_OK: return "done";
    case GG_CRC: return "a frame arrived corrupted";
    case GG_TYPE: return "the device does not know this type of frame";
    case GG_LENGTH: return "the frame has the wrong length for the model in the device";
    case GG_TIMEOUT: return "a frame stopped before its end";
    case GG_OVERRUN: return "bytes came faster than the model takes them";
    case GG_NOT_LOADED: return "the weights are not loaded; gg_load them";
    case GG_ADDRESS: return "the weight image arrived out of order";
    case GG_BUSY: return "the device was still computing";
    case GG_ORDER: return "a sample to learn from came out of its turn";
    case GG_LABEL: return "the label is none of the model's";
    case GG_NO_ANSWER: return "nothing answers: bitstream loaded? the right port and baud rate?";
    case GG_STRANGE: return "the device answers what cannot be: is it another device?";
    case GG_IO: return "the port or a callback failed";
    case GG_LOST: return "learned, but the result was lost on the line";
    case GG_OUT_OF_STEP: return "the device was started again or used by another host; load again";
    case GG_VERSION: return "the device speaks another version of the link";
    case GG_MODEL: return "the device holds another model";
    case GG_UNKNOWN: return "gg_identify has to come first";
    case GG_ABSENT: return "the model in the device cannot do this";
    case GG_SMALL: return "the space given to gg_init is too small for the reply";
    case GG_SIZE: return "the weight image has another size than the device's";
    case GG_IN_FLIGHT: return "gg_finish what is in flight first";
    case GG_IDLE: return "nothing is in flight";
    }
    return "an unknown code";
}

/* CRC-16/MCRF4XX of one more byte; it starts at 0xFFFF. */
static inline uint16_t gg_crc(uint16_t crc, uint8_t byte)
{
    uint8_t low = (uint8_t)(crc ^ byte);
    low = (uint8_t)(low ^ (low << 4));
    return (uint16_t)((crc >> 8) ^ ((uint16_t)low << 8) ^ ((uint16_t)low << 3) ^ (low >> 4));
}

/* `bytes` little endian bytes, 8 at most. */
static inline uint64_t gg_number(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;
    while (bytes--) value = value << 8 | from[bytes];
    return value;
}

static inline uint32_t gg_now(const gg_device *d)
{
    return d->io.milliseconds ? d->io.milliseconds(d->io.context) : 0;
}

/* ---- Frames ------------------------------------------------------------------------------- */

static inline void gg_put(gg_device *d, const uint8_t *data, uint16_t count)
{
    for (uint16_t k = 0; k < count; ++k) d->crc = gg_crc(d->crc, data[k]);
    if (count && !d->broken) d->broken = d->io.write(d->io.context, data, count) != 0;
}

/* A frame begins; then gg_put `length` bytes, then gg_end. */
static inline void gg_begin(gg_device *d, uint8_t kind, uint8_t sequence, uint16_t length)
{
    const uint8_t sync[2] = {0xA5, 0x5A};
    const uint8_t header[4] = {kind, sequence, (uint8_t)length, (uint8_t)(length >> 8)};
    d->broken = 0;
    gg_put(d, sync, 2);
    d->crc = 0xFFFF;
    gg_put(d, header, 4);
}

static inline gg_code gg_end(gg_device *d)
{
    const uint8_t crc[2] = {(uint8_t)d->crc, (uint8_t)(d->crc >> 8)};
    gg_put(d, crc, 2);
    return d->broken ? GG_IO : GG_OK;
}

static inline gg_code gg_send(gg_device *d, uint8_t kind, uint8_t sequence, const uint8_t *payload,
                              uint16_t length)
{
    gg_begin(d, kind, sequence, length);
    gg_put(d, payload, length);
    return gg_end(d);
}

/* Forget the first `count` of the bytes that came. */
static inline void gg_drop(gg_device *d, uint16_t count)
{
    d->have = (uint16_t)(d->have - count);
    for (uint16_t k = 0; k < d->have; ++k) d->space[k] = d->space[k + count];
}

/* How many bytes are missing, at least, until a right frame is at the start of the space: 0, it is.
 * Never more than there is room for. */
static inline uint16_t gg_missing(gg_device *d)
{
    for (;;) {
        uint16_t start = 0, crc = 0xFFFF, end;
        while (start < d->have && (d->space[start] != 0xA5 ||
               (start + 1 < d->have && d->space[start + 1] != 0x5A))) ++start;
        gg_drop(d, start);
        if (d->have < 6) return (uint16_t)(8 - d->have);
        end = (uint16_t)gg_number(d->space + 4, 2);
        if (end <= d->limit) {
            end = (uint16_t)(end + 6);
            if (d->have < end + 2) return (uint16_t)(end + 2 - d->have);
            for (uint16_t k = 2; k < end; ++k) crc = gg_crc(crc, d->space[k]);
            if (crc == gg_number(d->space + end, 2)) return 0;
        }
        gg_drop(d, 2); /* no frame; perhaps there is one in it */
    }
}

/* Milliseconds that `bytes` take on the line. */
static inline uint32_t gg_line_time(const gg_device *d, uint32_t bytes)
{
    return d->baud ? bytes * 10000u / d->baud + 1 : 0;
}

/* Wait for the reply to a request: its payload of `length` bytes is then at d->space + 6. */
static inline gg_code gg_reply(gg_device *d, uint8_t kind, uint8_t sequence, uint16_t length,
                               uint32_t patience_ms)
{
    uint32_t silence = 0, begun = gg_now(d);
    /* Whoever sends without end is not our device. */
    uint32_t budget = 4 * (d->limit + (uint32_t)256);
    if (GG_SPACE((uint32_t)length) > d->size) return GG_SMALL;
    d->result = NULL;
    for (;;) {
        uint16_t missing;
        gg_drop(d, d->taken);
        d->taken = 0;
        while ((missing = gg_missing(d)) != 0) {
            int32_t came;
            if (silence >= patience_ms || !budget || gg_now(d) - begun > 4 * patience_ms)
                return GG_NO_ANSWER;
            came = d->io.read(d->io.context, d->space + d->have, missing, GG_SLICE);
            if (came < 0 || came > missing) return GG_IO;
            if (came == 0) silence += GG_SLICE;
            d->have = (uint16_t)(d->have + came);
            budget -= (uint32_t)came < budget ? (uint32_t)came : budget;
        }
        d->heard = gg_now(d);
        d->taken = (uint16_t)(gg_number(d->space + 4, 2) + 8);
        if (d->space[3] != sequence) continue;
        if (d->space[2] == 0x80 && d->taken == 9) {
            const uint8_t code = d->space[6];
            return code >= GG_CRC && code <= GG_LABEL ? (gg_code)code : GG_STRANGE;
        }
        if (d->space[2] == (0x80 | kind) && d->taken == length + 8) return GG_OK;
    }
}

static inline uint32_t gg_patience(const gg_device *d, uint32_t bytes)
{
    return d->timeout_ms + 2 * gg_line_time(d, bytes + 16) + gg_line_time(d, d->limit + 8u);
}

/* One attempt. */
static inline gg_code gg_once(gg_device *d, uint8_t kind, const uint8_t *payload, uint16_t length,
                              uint16_t expected, uint32_t timeout_ms)
{
    const uint8_t sequence = d->sequence++;
    const gg_code code = gg_send(d, kind, sequence, payload, length);
    return code ? code : gg_reply(d, kind, sequence, expected, timeout_ms);
}

/* Throw away what comes until it is silent, so that the device gives up what it waits for. */
static inline void gg_settle(gg_device *d, uint32_t silence_ms)
{
    uint32_t left = 4 * (d->limit + (uint32_t)256);
    const uint32_t begun = gg_now(d);
    d->have = d->taken = 0;
    d->result = NULL;
    while (left && gg_now(d) - begun <= 10 * silence_ms) {
        const uint16_t count = (uint16_t)(d->limit + 8u);
        const int32_t came = d->io.read(d->io.context, d->space, count, silence_ms);
        if (came <= 0 || came > count) return;
        left -= (uint32_t)came < left ? (uint32_t)came : left;
    }
}

/* ---- The fast rate ------------------------------------------------------------------------ */

static inline int gg_change(gg_device *d, uint32_t baud)
{
    if (baud == d->baud) return 1;
    if (d->io.set_baud(d->io.context, baud)) return 0;
    d->baud = baud;
    return 1;
}

/* Whether the device answers at the rate in use. */
static inline int gg_hears(gg_device *d)
{
    gg_settle(d, GG_SLICE);
    return gg_once(d, 1, NULL, 0, 0, 2 * GG_PAUSE) == GG_OK;
}

/* Back to the normal rate for good; the device follows when it has heard nothing for a while. */
static inline void gg_slow_down(gg_device *d)
{
    d->fast = 0;
    if (d->baud == d->normal_baud || !gg_change(d, d->normal_baud)) return;
    for (int k = 0; k < 8; ++k) {
        gg_settle(d, 2 * GG_PAUSE);
        if (gg_hears(d)) return;
    }
}

/* Ask for the fast rate, and go back from it if it does not work. */
static inline void gg_quicken(gg_device *d)
{
    const uint8_t one = 1;
    gg_code code = GG_NO_ANSWER;
    d->fast = 0;
    for (int k = 0; k <= d->retries && code != GG_OK && code != GG_IO; ++k) {
        if (k) gg_settle(d, GG_PAUSE);
        code = gg_once(d, 8, &one, 1, 0, gg_patience(d, 1));
    }
    if (code != GG_OK) return;
    if (gg_change(d, d->identity.fast_baud)) {
        for (int k = 0; k <= d->retries; ++k) {
            if (gg_hears(d)) {
                d->fast = 1;
                return;
            }
        }
    }
    gg_slow_down(d);
}

/* Find the device again if it may be back at its normal rate. `failed`: it did not answer. */
static inline void gg_awake(gg_device *d, int failed)
{
    if (!d->fast) return;
    if (!failed && (!d->io.milliseconds || gg_now(d) - d->heard < GG_FAST_FOR)) return;
    if (gg_hears(d) || gg_hears(d)) return;
    if (gg_change(d, d->normal_baud)) {
        (void)gg_hears(d);
        gg_quicken(d);
    }
}

/* Before another attempt. */
static inline void gg_mend(gg_device *d, gg_code code)
{
    ++d->repeated;
    gg_settle(d, GG_PAUSE);
    if (code == GG_OVERRUN) {
        d->slow = 1;
        gg_slow_down(d);
    }
    gg_awake(d, code == GG_NO_ANSWER);
}

#ifdef __cplusplus
}
#endif
#endif
