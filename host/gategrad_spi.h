/* gategrad_spi.h - a SPI controller as gategrad.h's line: read and write for its gg_io.
 *
 *     static uint8_t kept[64];
 *     gg_spi spi = {bus, transfer, milliseconds, kept, sizeof kept, 0, 0, 0};
 *     gg_io io = {&spi, gg_spi_read, gg_spi_write, NULL, gg_spi_milliseconds};
 *     gg_init(&board, &io, 0, space, sizeof space);
 *
 * Mode 0, most significant bit first. C0 says nothing; C0 and DB themselves travel as DB DC and
 * DB DD.
 */
#ifndef GATEGRAD_SPI_H
#define GATEGRAD_SPI_H

#include "gategrad.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GG_SPI_IDLE = 0xC0, GG_SPI_ESCAPE = 0xDB, GG_SPI_NO_IDLE = 0xDC, GG_SPI_NO_ESCAPE = 0xDD };

/* transfer: select the device, send `count` bytes of `out` and put what comes meanwhile into `in`;
 *   0, or anything else for an error. milliseconds: as in gg_io, but needed. `context` is handed
 *   back to both.
 * kept: `room` bytes for what comes while a request goes out: 8 more than two results; what does
 *   not fit is lost and asked for again. */
typedef struct gg_spi {
    void *context;
    int (*transfer)(void *context, const uint8_t *out, uint8_t *in, uint16_t count);
    uint32_t (*milliseconds)(void *context);
    uint8_t *kept;
    uint16_t room;
    uint16_t first, count; /* of what is kept, a ring */
    uint8_t escaped;
} gg_spi;

/* `byte` as it goes over the wires, into `wire`; returns how many bytes that is, 1 or 2. */
static inline unsigned gg_spi_escape(uint8_t byte, uint8_t wire[2])
{
    wire[0] = byte;
    if (byte != GG_SPI_IDLE && byte != GG_SPI_ESCAPE) return 1;
    wire[0] = GG_SPI_ESCAPE;
    wire[1] = byte == GG_SPI_IDLE ? GG_SPI_NO_IDLE : GG_SPI_NO_ESCAPE;
    return 2;
}

/* What a byte of the wires comes to, below 0: nothing (yet). `*escaped`: 0 at first. */
static inline int gg_spi_unescape(uint8_t wire, uint8_t *escaped)
{
    int byte = wire;
    if (wire == GG_SPI_IDLE) return -1;
    if (wire == GG_SPI_ESCAPE) {
        *escaped = 1;
        return -1;
    }
    if (*escaped) byte = wire & 1 ? GG_SPI_ESCAPE : GG_SPI_IDLE;
    *escaped = 0;
    return byte;
}

/* Exchange `count` bytes, 32 at most, and keep what they bring. */
static inline int gg_spi_exchange(gg_spi *s, const uint8_t *out, uint16_t count)
{
    uint8_t in[32];
    if (s->transfer(s->context, out, in, count)) return -1;
    for (uint16_t k = 0; k < count; ++k) {
        const int byte = gg_spi_unescape(in[k], &s->escaped);
        if (byte < 0 || s->count >= s->room) continue;
        s->kept[(uint16_t)((s->first + (uint32_t)s->count++) % s->room)] = (uint8_t)byte;
    }
    return 0;
}

/* gg_io's functions; their context is the gg_spi. */
static inline uint32_t gg_spi_milliseconds(void *context)
{
    const gg_spi *s = (const gg_spi *)context;
    return s->milliseconds(s->context);
}

static inline int32_t gg_spi_read(void *context, uint8_t *buffer, uint16_t count,
                                  uint32_t timeout_ms)
{
    gg_spi *s = (gg_spi *)context;
    const uint32_t begun = s->milliseconds(s->context);
    uint16_t done = 0;
    while (!s->count) {
        uint8_t idle[32];
        for (unsigned k = 0; k < sizeof idle; ++k) idle[k] = GG_SPI_IDLE;
        if (gg_spi_exchange(s, idle, s->room < sizeof idle ? s->room : (uint16_t)sizeof idle))
            return -1;
        if (s->milliseconds(s->context) - begun >= timeout_ms) break;
    }
    for (; done < count && s->count; --s->count) {
        buffer[done++] = s->kept[s->first];
        s->first = (uint16_t)((s->first + 1u) % s->room);
    }
    return done;
}

static inline int gg_spi_write(void *context, const uint8_t *buffer, uint16_t count)
{
    gg_spi *s = (gg_spi *)context;
    uint8_t out[32];
    uint16_t filled = 0;
    for (uint16_t k = 0; k < count; ++k) {
        filled = (uint16_t)(filled + gg_spi_escape(buffer[k], out + filled));
        if (filled < sizeof out - 1 && k + 1u < count) continue;
        if (gg_spi_exchange(s, out, filled)) return -1;
        filled = 0;
    }
    return 0;
}

#ifdef __cplusplus
}
#endif
#endif
