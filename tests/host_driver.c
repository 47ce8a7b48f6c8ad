/* Calls gategrad.h as its arguments say, for test_host_c.py, which also loads it as a library:
 *
 *     host_driver PORT BAUD WORD[=VALUE]...
 *
 * Words are done in order; each but timeout, retries and space prints a line: the word, the result
 * code, values. For each request in flight a line begins with "result".
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../host/gategrad.h"
#include "../host/gategrad_spi.h"
#include "../host/serial.h"

static gg_device board;

static uint8_t *contents(const char *path, uint32_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    if (!file || fseek(file, 0, SEEK_END)) exit(3);
    *size = (uint32_t)ftell(file);
    rewind(file);
    /* Exactly as large, so that a sanitiser sees who reads beyond. */
    data = (uint8_t *)malloc(*size ? *size : 1);
    if (!data || fread(data, 1, *size, file) != *size) exit(3);
    fclose(file);
    return data;
}

static gg_code result(void)
{
    uint16_t which = 0;
    const gg_code code = gg_finish(&board, &which);
    printf("result %d", code);
    if (code == GG_OK) {
        printf(" %u", which);
        for (unsigned k = 0; k < board.identity.outputs; ++k)
            printf(" %lld", (long long)gg_output(&board, k));
    }
    printf("\n");
    return code;
}

/* Frames in a file, each with a label behind it if `learn`, FFFF: only inferred. */
static gg_code stream(const char *path, int learn, unsigned window)
{
    uint32_t size, step = gg_input_bytes(&board.identity), at;
    uint8_t *data = contents(path, &size);
    gg_code code = GG_OK;
    for (at = 0; step && at + step <= size; at += step + (learn ? 2u : 0u)) {
        const uint8_t *end = data + at + step;
        const uint16_t label = learn ? (uint16_t)(end[0] | end[1] << 8) : 0xFFFF;
        if (board.in_flight == window) {
            code = result();
            if (code != GG_OK && code != GG_LOST) break;
        }
        code = label == 0xFFFF ? gg_infer_start(&board, data + at)
                               : gg_train_start(&board, data + at, label);
        if (code != GG_OK) break;
    }
    while (board.in_flight) code = result();
    free(data);
    return code == GG_LOST ? GG_OK : code;
}

static gg_code run(const char *word, const char *value)
{
    const gg_identity *i = &board.identity;
    uint64_t counted[64] = {0};
    uint32_t size;
    uint8_t *data;
    gg_code code = GG_OK;
    FILE *file;
    if (!strcmp(word, "identify")) {
        code = gg_identify(&board);
    } else if (!strcmp(word, "ping")) {
        code = gg_ping(&board);
    } else if (!strcmp(word, "speed")) {
        code = gg_speed_up(&board);
    } else if (!strcmp(word, "slow")) {
        code = gg_speed_down(&board);
    } else if (!strcmp(word, "sleep")) {
        poll(NULL, 0, atoi(value));
    } else if (!strcmp(word, "expect")) {
        data = contents(value, &size);
        code = gg_expect(&board, data);
        free(data);
    } else if (!strcmp(word, "load")) {
        data = contents(value, &size);
        code = gg_load(&board, data, size);
        free(data);
    } else if (!strcmp(word, "read")) {
        size = i->load_bytes < 1u << 20 ? i->load_bytes : 1u << 20;
        data = (uint8_t *)malloc(size + 1);
        file = fopen(value, "wb");
        code = gg_read(&board, data, size);
        if (code == GG_OK) fwrite(data, 1, size, file);
        fclose(file);
        free(data);
    } else if (!strcmp(word, "infer")) {
        code = stream(value, 0, 2);
    } else if (!strcmp(word, "infer1")) {
        code = stream(value, 0, 1);
    } else if (!strcmp(word, "train")) {
        code = stream(value, 1, 2);
    } else if (!strcmp(word, "counters")) {
        code = gg_counters(&board, counted, 64);
    } else {
        exit(3);
    }
    printf("%s %d", word, code);
    if (!strcmp(word, "identify") && code == GG_OK) {
        printf(" version=%u inputs=%u input_bits=%u input_signed=%u outputs=%u output_bits=%u "
               "output_signed=%u load_bytes=%lu loaded=%u readable=%u written=%u classes=%u counters=%u "
               "fast_baud=%lu clock_hz=%lu model=", i->version, i->inputs, i->input_bits,
               i->input_signed, i->outputs, i->output_bits, i->output_signed,
               (unsigned long)i->load_bytes, i->loaded, i->readable, i->written, i->classes,
               i->counters, (unsigned long)i->fast_baud, (unsigned long)i->clock_hz);
        for (unsigned k = 0; k < 8; ++k) printf("%02x", i->model[k]);
    } else if (!strcmp(word, "counters")) {
        for (unsigned k = 0; k < i->counters && k < 64; ++k)
            printf(" %llu", (unsigned long long)counted[k]);
    } else {
        printf(" repeated=%lu baud=%lu", (unsigned long)board.repeated, (unsigned long)board.baud);
    }
    printf(" (%s)\n", gg_message(code));
    return code;
}

/* For Python, as a library. */
uint16_t host_crc(const uint8_t *data, unsigned count);
unsigned host_escape(uint8_t byte, uint8_t *wire);
int host_unescape(uint8_t wire, uint8_t *escaped);
int host_spi(int (*transfer)(void *, const uint8_t *, uint8_t *, uint16_t),
             uint32_t (*milliseconds)(void *), const uint8_t *frames, unsigned count,
             int64_t *outputs);

uint16_t host_crc(const uint8_t *data, unsigned count)
{
    uint16_t crc = 0xFFFF;
    while (count--) crc = gg_crc(crc, *data++);
    return crc;
}

unsigned host_escape(uint8_t byte, uint8_t *wire)
{
    return gg_spi_escape(byte, wire);
}

int host_unescape(uint8_t wire, uint8_t *escaped)
{
    return gg_spi_unescape(wire, escaped);
}

/* Outputs of frames, two in flight, over SPI; the code, negative: what was repeated instead. */
int host_spi(int (*transfer)(void *, const uint8_t *, uint8_t *, uint16_t),
             uint32_t (*milliseconds)(void *), const uint8_t *frames, unsigned count,
             int64_t *outputs)
{
    static uint8_t kept[64], space[GG_SPACE(64)];
    gg_spi spi = {NULL, transfer, milliseconds, kept, sizeof kept, 0, 0, 0};
    const gg_io io = {&spi, gg_spi_read, gg_spi_write, NULL, gg_spi_milliseconds};
    gg_code code;
    gg_init(&board, &io, 0, space, sizeof space);
    code = gg_identify(&board);
    for (unsigned started = 0, done = 0; code == GG_OK && done < count;) {
        if (started < count && board.in_flight < 2) {
            code = gg_infer_start(&board, frames + started++ * gg_input_bytes(&board.identity));
            continue;
        }
        code = gg_finish(&board, NULL);
        for (unsigned k = 0; k < board.identity.outputs; ++k) *outputs++ = gg_output(&board, k);
        ++done;
    }
    return code ? (int)code : -(int)board.repeated;
}

int main(int count, char **words)
{
    uint32_t baud, timeout = 1000, retries = 3, size = GG_SPACE(1024);
    uint8_t *space = NULL;
    gg_io io;
    int port, begun = 0;
    if (count < 4) return 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    baud = (uint32_t)atol(words[2]);
    if (serial_open(words[1], baud, &port, &io)) return 3;
    for (int k = 3; k < count; ++k) {
        char *value = strchr(words[k], '=');
        if (value) *value++ = 0;
        if (!strcmp(words[k], "timeout")) board.timeout_ms = timeout = (uint32_t)atoi(value);
        else if (!strcmp(words[k], "retries")) retries = (uint32_t)atoi(value);
        else if (!strcmp(words[k], "space")) size = (uint32_t)atoi(value);
        else if (!strcmp(words[k], "clockless")) io.milliseconds = NULL;
        else {
            if (!begun) {
                space = (uint8_t *)malloc(size);
                gg_init(&board, &io, baud, space, size);
                board.timeout_ms = timeout;
                board.retries = (uint8_t)retries;
                begun = 1;
            }
            run(words[k], value ? value : "");
        }
    }
    free(space);
    close(port);
    return 0;
}
