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

static __always_inline int take_handshake(const struct tandem_edge_prefix* source) {
    __u32 zero = 0;
    struct tandem_edge_settings* s = bpf_map_lookup_elem(&settings, &zero);
    if (!s || s->handshakes_per_second == 0)
        return 1;
    __u64 rate = s->handshakes_per_second;
    __u64 full = (s->handshake_burst ? s->handshake_burst : 1) * MILLI;
    __u64 now = bpf_ktime_get_ns();

    struct tandem_edge_bucket* b = bpf_map_lookup_elem(&handshake_buckets, source);
    if (!b) {
        struct tandem_edge_bucket fresh = {.refilled_ns = now, .millitokens = full - MILLI};
        bpf_map_update_elem(&handshake_buckets, source, &fresh, BPF_ANY);
        return 1;
    }
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

#endif
