/* example.c - classify frames on a gategrad board.
 *
 *     cc -O2 -o example example.c
 *     ./example /dev/ttyUSB1 frames.bin                   one class a line
 *     ./example /dev/ttyUSB1 frames.bin weights.bin       loads the weights if the board has none
 *     ./example /dev/ttyUSB1 frames.bin - 115200          at another baud rate than 1,000,000
 *
 * frames.bin: frames one after another, as docs/link.md says under INFER; weights.bin is in the
 * folder of the bitstream.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE /* baud rates above 38,400 */
#define _DARWIN_C_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gategrad.h"
#include "serial.h"

static uint8_t frames[2][65536], space[65536];

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "example: %s: %s\n", what, why);
    return 2;
}

/* For gg_load_from: a piece of an open file. */
static int from_file(void *file, uint32_t address, uint8_t *buffer, uint16_t count)
{
    return fseek((FILE *)file, (long)address, SEEK_SET) ||
           fread(buffer, 1, count, (FILE *)file) != count;
}

static gg_code load(gg_device *board, const char *path)
{
    FILE *file = fopen(path, "rb");
    gg_code code = GG_SIZE;
    if (!file) return GG_IO;
    if (fseek(file, 0, SEEK_END) == 0 && ftell(file) == (long)board->identity.load_bytes)
        code = gg_load_from(board, from_file, file);
    fclose(file);
    return code;
}

/* The next class, printed. */
static gg_code finish(gg_device *board)
{
    uint16_t which;
    const gg_code code = gg_finish(board, &which);
    if (code == GG_OK) printf("%u\n", which);
    return code;
}

int main(int count, char **words)
{
    const char *weights = count > 3 ? words[3] : "-";
    const long baud = count > 4 ? atol(words[4]) : 1000000;
    const gg_identity *is;
    unsigned next = 0;
    size_t size;
    gg_device board;
    gg_io io;
    gg_code code, slower;
    FILE *file;
    int port;

    if (count < 3) return fail("usage", "example PORT FRAMES [WEIGHTS|-] [BAUD]");
    if (!(file = fopen(words[2], "rb"))) return fail(words[2], strerror(errno));
    if (serial_speed((uint32_t)baud) == B0) return fail(words[4], "no baud rate of this system");
    if (serial_open(words[1], (uint32_t)baud, &port, &io)) return fail(words[1], strerror(errno));

    gg_init(&board, &io, (uint32_t)baud, space, sizeof space);
    if ((code = gg_identify(&board)) != GG_OK) return fail(words[1], gg_message(code));
    is = &board.identity;
    fprintf(stderr, "model ");
    for (unsigned k = 0; k < sizeof is->model; ++k) fprintf(stderr, "%02x", is->model[k]);
    fprintf(stderr, ", %u inputs of %u bits, %u outputs, %.1f MHz\n", is->inputs, is->input_bits,
            is->outputs, is->clock_hz / 1e6);
    if (!is->loaded && strcmp(weights, "-") != 0 && (code = load(&board, weights)) != GG_OK)
        return fail(weights, gg_message(code));
    if ((code = gg_speed_up(&board)) != GG_OK) return fail(words[1], gg_message(code));

    /* Two in flight: while the board computes one the next is on its way. */
    while ((size = fread(frames[next], 1, gg_input_bytes(is), file)) == gg_input_bytes(is)) {
        if ((code = gg_infer_start(&board, frames[next])) != GG_OK) break;
        if (board.in_flight == 2 && (code = finish(&board)) != GG_OK) break;
        next = 1 - next;
    }
    while (code == GG_OK && board.in_flight) code = finish(&board);
    slower = gg_speed_down(&board); /* after an error too: the next host finds the usual rate */
    if (code == GG_OK) code = slower;
    fclose(file);
    close(port);
    if (code == GG_OK && size) return fail(words[2], "ends inside a frame");
    return code == GG_OK ? 0 : fail(words[1], gg_message(code));
}
