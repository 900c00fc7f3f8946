/* Wall clock in nanoseconds from an arbitrary origin (CLOCK_MONOTONIC), and UTC as text. */
#pragma once

#include <stdint.h>

uint64_t cop_clock_ns(void);

enum { COP_CLOCK_UTC_BYTES = 32 };
void cop_clock_utc(char text[COP_CLOCK_UTC_BYTES]); /* "2026-01-31T12:00:00Z" */
