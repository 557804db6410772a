/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Verdicts: what is decided about a frame, and its per-CPU counter. Drop reasons are the rows of drops.def. */
#ifndef TANDEM_BPF_VERDICT_H
#define TANDEM_BPF_VERDICT_H

#include "bpf/maps.h"

enum edge_drop {
#define X(name, text) DROP_##name,
#include "dataplane/api/drops.def"
#undef X
};

static __always_inline void count(__u32 verdict) {
    __u64* packets = bpf_map_lookup_elem(&verdicts, &verdict);
    if (packets)
        *packets += 1;
}

static __always_inline int drop(enum edge_drop reason) {
    count(reason);
    return XDP_DROP;
}

static __always_inline int to_kernel(enum tandem_edge_verdict why) {
    count(why);
    return XDP_PASS;
}

/* A queue without a socket drops: media never leaks to the kernel, which would answer with ICMP errors. */
static __always_inline int to_worker(struct xdp_md* ctx) {
    long action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
    if (action != XDP_REDIRECT)
        return drop(DROP_edge_no_queue);
    count(TANDEM_EDGE_TO_WORKER);
    return XDP_REDIRECT;
}

#endif
