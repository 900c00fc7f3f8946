#include "base/clock.h"

#include <time.h>

uint64_t cop_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void cop_clock_utc(char text[COP_CLOCK_UTC_BYTES]) {
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(text, COP_CLOCK_UTC_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
}
