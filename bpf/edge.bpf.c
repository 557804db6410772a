// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The XDP edge: for each frame that an interface receives, media to a worker, rubbish away, the rest to the kernel.
 * The decisions are in tandem_edge() and read from top to bottom; parse.h reads the frame, bucket.h limits handshakes,
 * verdict.h counts. State is in maps.h and written by the data plane's control thread (dataplane/api/edge_maps.h).
 */
#include <linux/bpf.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_helpers.h>

#include "bpf/bucket.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/verdict.h"

char edge_license[] SEC("license") = "Dual BSD/GPL";

static __always_inline int is_open(__u32 address, __u16 port) {
    __u32 word = address * TANDEM_EDGE_PORT_WORDS + port / 64;
    __u64* ports = bpf_map_lookup_elem(&open_ports, &word);
    return ports && (*ports >> (port % 64) & 1);
}

/* 0 = no tunnel here, 1 = tunnel, 2 = tunnel whose handshakes are limited */
static __always_inline int tunnel_port(__u8 protocol, __u16 port) {
    struct tandem_edge_service key = {.port = port, .protocol = protocol};
    __u32* limited = bpf_map_lookup_elem(&tunnel_ports, &key);
    return !limited ? 0 : *limited ? 2 : 1;
}

/* RFC 6347 4.1 and 4.2: an unencrypted (epoch 0) handshake record that begins a ClientHello. */
static __always_inline int is_dtls_client_hello(const __u8* payload, const void* end) {
    if ((const void*)(payload + 14) > end)
        return 0;
    return payload[0] == 22 && payload[1] == 0xfe && payload[3] == 0 && payload[4] == 0 && payload[13] == 1;
}

static __always_inline int handshake(const struct packet* p) {
    switch (take_handshake(&p->source)) {
    case HANDSHAKE_OF_ONE:
        return drop(DROP_edge_handshake_limit);
    case HANDSHAKE_OF_ALL:
        return drop(DROP_edge_handshakes_full);
    default:
        return to_kernel(TANDEM_EDGE_HANDSHAKE);
    }
}

static __always_inline int decide_tcp(const struct packet* p, const void* end) {
    const struct tcphdr* tcp = p->l4;
    if (p->later_fragment || (const void*)(tcp + 1) > end)
        return to_kernel(TANDEM_EDGE_TO_KERNEL);
    if (tcp->syn && !tcp->ack && tunnel_port(IPPROTO_TCP, bpf_ntohs(tcp->dest)) == 2)
        return handshake(p);
    return to_kernel(TANDEM_EDGE_TO_KERNEL);
}

/* media: the index of the media address that it is for, or null. */
static __always_inline int decide_udp(struct xdp_md* ctx, const struct packet* p, const __u32* media, const void* end) {
    if (media && p->fragment)
        return drop(DROP_edge_fragment);
    const struct udphdr* udp = p->l4;
    if (p->later_fragment)
        return to_kernel(TANDEM_EDGE_TO_KERNEL);
    if ((const void*)(udp + 1) > end || p->l4_length < sizeof(*udp))
        return media ? drop(DROP_edge_bad_udp) : to_kernel(TANDEM_EDGE_TO_KERNEL);
    __u32 length = bpf_ntohs(udp->len);
    if (media && (length < sizeof(*udp) || length > p->l4_length))
        return drop(DROP_edge_bad_udp);

    __u16 port = bpf_ntohs(udp->dest);
    if (media && is_open(*media, port))
        return to_worker(ctx);
    int tunnel = tunnel_port(IPPROTO_UDP, port);
    if (media && !tunnel)
        return drop(DROP_edge_closed_port);
    if (tunnel == 2 && is_dtls_client_hello((const __u8*)(udp + 1), end))
        return handshake(p);
    return to_kernel(TANDEM_EDGE_TO_KERNEL);
}

/* Of the inner network, which is behind tunnels and nowhere else. */
static __always_inline int is_inner(const struct tandem_edge_inner* inner, const struct tandem_edge_address* a) {
    __u64 word[2];
    __builtin_memcpy(word, a->ip, sizeof(word));
    for (__u32 i = 0; i < TANDEM_EDGE_MAX_INNER; i++) {
        const struct tandem_edge_network* n = &inner->network[i];
        if (i < inner->count && (word[0] & n->mask[0]) == n->address[0] && (word[1] & n->mask[1]) == n->address[1])
            return 1;
    }
    return 0;
}

SEC("xdp")
int tandem_edge(struct xdp_md* ctx) {
    const void* end = (const void*)(long)ctx->data_end;
    struct packet p = {};

    enum parse_result parsed = parse(ctx, &p);
    if (parsed == PARSE_NOT_IP)
        return to_kernel(TANDEM_EDGE_TO_KERNEL);

    __u32 zero = 0;
    const struct tandem_edge_inner* inner = bpf_map_lookup_elem(&inner_networks, &zero);
    if (inner && inner->count && (is_inner(inner, &p.destination) || is_inner(inner, &p.sender)))
        return drop(DROP_edge_inner);
    if (parsed == PARSE_ARP)
        return to_kernel(TANDEM_EDGE_TO_KERNEL);

    const __u32* media = p.mapped ? 0 : bpf_map_lookup_elem(&media_addresses, &p.destination);
    if (parsed == PARSE_BAD_IP)
        return media ? drop(DROP_edge_bad_ip) : to_kernel(TANDEM_EDGE_TO_KERNEL);

    /* What a later fragment of IPv6 continues can hide behind more headers, which only the first one shows. */
    if (media && p.later_fragment && is_extension(p.protocol))
        return drop(DROP_edge_fragment);
    if (p.protocol == IPPROTO_UDP)
        return decide_udp(ctx, &p, media, end);
    if (p.protocol == IPPROTO_TCP)
        return decide_tcp(&p, end);
    return to_kernel(TANDEM_EDGE_TO_KERNEL);
}
