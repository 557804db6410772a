/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Token bucket per source prefix (/24 or /64) in front of the handshakes: they are what costs the control plane.
 * Two CPUs may read one bucket at once and both take its last token; that is cheaper than a lock and bounded by the
 * number of CPUs. The least recently used prefix is forgotten, so a flood of sources cannot exhaust the map.
 */
#ifndef TANDEM_BPF_BUCKET_H
#define TANDEM_BPF_BUCKET_H

#include "bpf/maps.h"

#define MILLI 1000ull
#define MAX_IDLE_NS 3600000000000ull /* more makes no bucket fuller, and would overflow below */

/* 1 = there was a token, and it is taken. */
static __always_inline int take_token(struct tandem_edge_bucket* b, __u64 rate, __u64 full, __u64 now) {
    __u64 idle = now - b->refilled_ns;
    if (idle > MAX_IDLE_NS)
        idle = MAX_IDLE_NS;
    __u64 earned = idle / 1000 * rate / 1000; /* microseconds * tokens per second = millitokens * 1000 */
    if (earned) {
        __u64 tokens = b->millitokens + earned;
        /* The clock moves by what was earned, not to now: under a flood the rounding would eat the rate. */
        b->refilled_ns = idle == MAX_IDLE_NS || tokens >= full ? now : b->refilled_ns + earned * 1000000 / rate;
        b->millitokens = tokens > full ? full : tokens;
    }
    if (b->millitokens < MILLI)
        return 0;
    b->millitokens -= MILLI;
    return 1;
}

static __always_inline __u64 full_of(__u32 burst) {
    return (burst ? burst : 1) * MILLI;
}

enum handshake_admission { HANDSHAKE_ADMITTED, HANDSHAKE_OF_ONE, HANDSHAKE_OF_ALL };

/* All prefixes that no unit has come from draw on one bucket, too: an unseen prefix has a full one of its own. It is
 * asked first, so that a flood of prefixes does not drive those of units out of the map. */
static __always_inline enum handshake_admission take_handshake(const struct tandem_edge_prefix* source) {
    __u32 zero = 0;
    struct tandem_edge_settings* s = bpf_map_lookup_elem(&settings, &zero);
    if (!s)
        return HANDSHAKE_ADMITTED;
    __u64 now = bpf_ktime_get_ns();
    if (s->total_per_second && !bpf_map_lookup_elem(&proven_sources, source)) {
        struct tandem_edge_bucket* all = bpf_map_lookup_elem(&handshake_total, &zero);
        if (all && !take_token(all, s->total_per_second, full_of(s->total_burst), now))
            return HANDSHAKE_OF_ALL;
    }
    if (s->handshakes_per_second == 0)
        return HANDSHAKE_ADMITTED;
    __u64 full = full_of(s->handshake_burst);
    struct tandem_edge_bucket* b = bpf_map_lookup_elem(&handshake_buckets, source);
    if (!b) {
        struct tandem_edge_bucket fresh = {.refilled_ns = now, .millitokens = full - MILLI};
        bpf_map_update_elem(&handshake_buckets, source, &fresh, BPF_ANY);
        return HANDSHAKE_ADMITTED;
    }
    return take_token(b, s->handshakes_per_second, full, now) ? HANDSHAKE_ADMITTED : HANDSHAKE_OF_ONE;
}

#endif
