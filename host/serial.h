/* serial.h - a serial port of a POSIX system as gategrad.h's line. */
#ifndef GATEGRAD_SERIAL_H
#define GATEGRAD_SERIAL_H

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "gategrad.h"

/* The bits per second that termios has a name for; B0 for others. */
static inline speed_t serial_speed(uint32_t baud)
{
    switch (baud) {
    case 9600: return B9600;
    case 115200: return B115200;
#ifdef B500000
    case 500000: return B500000;
#endif
#ifdef B1000000
    case 1000000: return B1000000;
#endif
#ifdef B1500000
    case 1500000: return B1500000;
#endif
#ifdef B2000000
    case 2000000: return B2000000;
#endif
#ifdef B3000000
    case 3000000: return B3000000;
#endif
#ifdef B4000000
    case 4000000: return B4000000;
#endif
    default: return B0;
    }
}

/* The context of all of these: a file descriptor. */
static inline int serial_baud(void *context, uint32_t baud)
{
    const int file = *(const int *)context;
    struct termios settings;
    if (serial_speed(baud) == B0 || tcgetattr(file, &settings)) return -1;
    cfsetispeed(&settings, serial_speed(baud));
    cfsetospeed(&settings, serial_speed(baud));
    return tcsetattr(file, TCSADRAIN, &settings);
}

static inline int32_t serial_read(void *context, uint8_t *buffer, uint16_t count,
                                  uint32_t timeout_ms)
{
    struct pollfd ready = {*(const int *)context, POLLIN, 0};
    const int events = poll(&ready, 1, (int)timeout_ms);
    ssize_t came;
    if (events <= 0) return events;
    came = read(ready.fd, buffer, count);
    return came > 0 ? (int32_t)came : -1; /* ready, and nothing there: unplugged */
}

static inline int serial_write(void *context, const uint8_t *buffer, uint16_t count)
{
    while (count) {
        const ssize_t sent = write(*(const int *)context, buffer, count);
        if (sent <= 0) return -1;
        buffer += sent;
        count = (uint16_t)(count - sent);
    }
    return 0;
}

static inline uint32_t serial_milliseconds(void *context)
{
    struct timespec now;
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}

/* The callbacks for the file descriptor in `*file`, which stays there; it is opened at `baud`.
 * Below 0: the system says why in errno; or there is no such baud rate. */
static inline int serial_open(const char *port, uint32_t baud, int *file, gg_io *io)
{
    struct termios settings;
    io->context = file;
    io->read = serial_read;
    io->write = serial_write;
    io->set_baud = serial_baud;
    io->milliseconds = serial_milliseconds;
    *file = open(port, O_RDWR | O_NOCTTY);
    if (*file < 0) return -1;
    if (tcgetattr(*file, &settings) == 0) {
        settings.c_iflag = settings.c_oflag = settings.c_lflag = 0;
        settings.c_cflag = CS8 | CREAD | CLOCAL;
        settings.c_cc[VMIN] = 1;
        settings.c_cc[VTIME] = 0;
        if (tcsetattr(*file, TCSANOW, &settings) == 0 && serial_baud(file, baud) == 0)
            return tcflush(*file, TCIOFLUSH);
    }
    close(*file);
    return -1;
}

#endif
