/*
 * A clock that can be set: loaded before libc by LD_PRELOAD. While the file CLOCK_OFFSET holds a
 * number, the wall clock is so many seconds off; the monotonic one is not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *name = getenv("CLOCK_OFFSET");
    FILE *file = clock == CLOCK_REALTIME && name ? fopen(name, "r") : NULL;
    if (!file) return result;
    long offset = 0;
    if (fscanf(file, "%ld", &offset) == 1) time->tv_sec += offset;
    fclose(file);
    return result;
}
