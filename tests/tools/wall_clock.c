// SPDX-License-Identifier: Apache-2.0
// LD_PRELOAD: the wall's clock of one process is off by so many microseconds as stand in the file that
// TANDEM_WALL_CLOCK names (8 bytes, this machine's order), at any moment: who writes there sets its clock. The other
// clocks are as ever.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t* offset_us;

__attribute__((constructor)) static void find(void) {
    const char* path = getenv("TANDEM_WALL_CLOCK");
    const int file = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void* at = mmap(NULL, sizeof *offset_us, PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED)
        offset_us = at;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec* to) {
    const long result = syscall(SYS_clock_gettime, which, to);
    if (result != 0 || offset_us == NULL || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE))
        return (int)result;
    const int64_t ns = to->tv_nsec + *offset_us % 1000000 * 1000;
    to->tv_sec += *offset_us / 1000000 + (ns >= 1000000000) - (ns < 0);
    to->tv_nsec = ns + (ns < 0 ? 1000000000 : 0) - (ns >= 1000000000 ? 1000000000 : 0);
    return 0;
}

int gettimeofday(struct timeval* to, void* zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    to->tv_sec = now.tv_sec;
    to->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t* to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to != NULL)
        *to = now.tv_sec;
    return now.tv_sec;
}
