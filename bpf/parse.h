/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reading a frame: Ethernet, at most one VLAN tag, ARP, IPv4 or IPv6 with its extension headers.
 * RFC 791, RFC 8200, RFC 5722 and 8021 (IPv6 fragments), IEEE 802.1Q / 802.1ad. Never reads beyond data_end.
 */
#ifndef TANDEM_BPF_PARSE_H
#define TANDEM_BPF_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "dataplane/api/edge_maps.h"

enum parse_result {
    PARSED,       /* `packet` is filled in, packet->l4 is where the transport header should be */
    PARSE_ARP,    /* sender and destination are who asks and who is asked for */
    PARSE_NOT_IP, /* or so short that its destination cannot be read */
    PARSE_BAD_IP, /* the destination is known, the rest makes no sense */
};

struct packet {
    struct tandem_edge_address destination;
    struct tandem_edge_address sender;
    struct tandem_edge_prefix source; /* the sender's, folded to its prefix */
    void* l4;
    __u32 l4_length; /* bytes from l4 to the end that the IP header tells; they are in the frame */
    __u8 protocol;
    __u8 fragment;       /* any fragment */
    __u8 later_fragment; /* not the first: there is no transport header */
    __u8 mapped;         /* IPv6 to ::ffff:0:0/96, which is no media address */
};

struct vlan_tag {
    __be16 tci;
    __be16 inner_type;
};

struct extension_header {
    __u8 next;
    __u8 length; /* in 8 bytes, the first not counted */
};

struct fragment_header {
    __u8 next;
    __u8 reserved;
    __be16 offset; /* 13 bits, 2 reserved, M */
    __be32 id;
};

#define MAX_EXTENSION_HEADERS 6
#define MAX_OFFSET 0x3fff /* larger than any frame; the verifier wants a bound */

/* Ethernet type of what follows the Ethernet header and at most one tag; 0 if there is not enough. */
static __always_inline __u16 parse_ethernet(void** cursor, void* end) {
    struct ethhdr* eth = *cursor;
    if ((void*)(eth + 1) > end)
        return 0;
    *cursor = eth + 1;
    __u16 type = bpf_ntohs(eth->h_proto);
    if (type != ETH_P_8021Q && type != ETH_P_8021AD)
        return type;
    struct vlan_tag* tag = *cursor;
    if ((void*)(tag + 1) > end)
        return 0;
    *cursor = tag + 1;
    return bpf_ntohs(tag->inner_type);
}

/* RFC 826, of IPv4 on Ethernet. */
struct arp_packet {
    __be16 hardware;
    __be16 protocol;
    __u8 hardware_length;
    __u8 protocol_length;
    __be16 operation;
    __u8 sender_mac[6];
    __u8 sender[4];
    __u8 target_mac[6];
    __u8 target[4];
};

static __always_inline void set_ipv4(struct tandem_edge_address* to, const void* address) {
    to->ip[10] = 0xff;
    to->ip[11] = 0xff;
    __builtin_memcpy(to->ip + 12, address, 4);
}

static __always_inline enum parse_result parse_arp(void* cursor, void* end, struct packet* p) {
    struct arp_packet* arp = cursor;
    if ((void*)(arp + 1) > end || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
        arp->protocol_length != 4)
        return PARSE_NOT_IP;
    set_ipv4(&p->sender, arp->sender);
    set_ipv4(&p->destination, arp->target);
    return PARSE_ARP;
}

static __always_inline enum parse_result parse_ipv4(void* cursor, void* end, struct packet* p) {
    struct iphdr* ip = cursor;
    if ((void*)(ip + 1) > end)
        return PARSE_NOT_IP;
    set_ipv4(&p->destination, &ip->daddr);
    set_ipv4(&p->sender, &ip->saddr);
    __builtin_memcpy(p->source.ip + 4, &ip->saddr, 3);

    __u32 header = ip->ihl * 4u;
    __u32 total = bpf_ntohs(ip->tot_len);
    __u32 present = (__u32)((long)end - (long)cursor);
    if (ip->version != 4 || header < sizeof(*ip) || total < header || total > present)
        return PARSE_BAD_IP;
    p->protocol = ip->protocol;
    p->fragment = (ip->frag_off & bpf_htons(0x3fff)) != 0;
    p->later_fragment = (ip->frag_off & bpf_htons(0x1fff)) != 0;
    p->l4 = cursor + header;
    p->l4_length = total - header;
    return PARSED;
}

static __always_inline int is_extension(__u8 next) {
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT;
}

/* Where the walk over the extension headers is. */
struct walk {
    __u32 offset; /* from the frame's start */
    __u32 left;   /* bytes from there to the end that the IPv6 header tells */
    __u8 next;
    __u8 fragment;
    __u8 later_fragment;
    __u8 reserved;
};

/* Walks to the transport header; ends at the first header that is none of ours, or after the bound. A function of its
 * own, not inlined and not static: the verifier then looks at it once, not once for every way into it and out of it,
 * and the program loads in milliseconds. */
__attribute__((noinline)) int walk_extensions(struct xdp_md* ctx, struct walk* w) {
    if (!w)
        return PARSE_BAD_IP;
    void* begin = (void*)(long)ctx->data;
    void* end = (void*)(long)ctx->data_end;
    for (int i = 0; i < MAX_EXTENSION_HEADERS && is_extension(w->next); i++) {
        if (w->left < 8 || w->offset > MAX_OFFSET)
            return PARSE_BAD_IP;
        struct extension_header* e = begin + w->offset;
        if ((void*)e + 8 > end)
            return PARSE_BAD_IP;
        __u32 length = 8;
        if (w->next == IPPROTO_FRAGMENT) {
            struct fragment_header* f = (void*)e;
            w->fragment = 1;
            w->later_fragment = (f->offset & bpf_htons(0xfff8)) != 0;
        } else {
            length = (e->length + 1u) * 8u;
        }
        w->next = e->next;
        if (w->later_fragment)
            return PARSED;
        if (length > w->left)
            return PARSE_BAD_IP;
        w->left -= length;
        w->offset += length;
    }
    /* A longer chain than anyone has a use for. */
    return is_extension(w->next) || w->offset > MAX_OFFSET ? PARSE_BAD_IP : PARSED;
}

static __always_inline enum parse_result parse_ipv6(struct xdp_md* ctx, void* cursor, struct packet* p) {
    void* end = (void*)(long)ctx->data_end;
    struct ipv6hdr* ip = cursor;
    if ((void*)(ip + 1) > end)
        return PARSE_NOT_IP;
    __builtin_memcpy(p->destination.ip, &ip->daddr, 16);
    __builtin_memcpy(p->sender.ip, &ip->saddr, 16);
    __builtin_memcpy(p->source.ip, &ip->saddr, 8);
    const __u8* d = p->destination.ip;
    p->mapped =
        !(d[0] | d[1] | d[2] | d[3] | d[4] | d[5] | d[6] | d[7] | d[8] | d[9]) && d[10] == 0xff && d[11] == 0xff;

    __u32 left = bpf_ntohs(ip->payload_len);
    if (ip->version != 6 || left > (__u32)((long)end - (long)(ip + 1)))
        return PARSE_BAD_IP;
    p->protocol = ip->nexthdr;
    p->l4 = ip + 1;
    p->l4_length = left;
    if (!is_extension(ip->nexthdr))
        return PARSED;
    struct walk w = {.offset = (__u32)((long)(ip + 1) - (long)ctx->data), .left = left, .next = ip->nexthdr};
    enum parse_result result = walk_extensions(ctx, &w);
    p->protocol = w.next;
    p->fragment = w.fragment;
    p->later_fragment = w.later_fragment;
    p->l4_length = w.left;
    p->l4 = (void*)(long)ctx->data + (w.offset & MAX_OFFSET);
    return result;
}

static __always_inline enum parse_result parse(struct xdp_md* ctx, struct packet* p) {
    void* cursor = (void*)(long)ctx->data;
    void* end = (void*)(long)ctx->data_end;
    __u16 type = parse_ethernet(&cursor, end);
    if (type == ETH_P_IP)
        return parse_ipv4(cursor, end, p);
    if (type == ETH_P_IPV6)
        return parse_ipv6(ctx, cursor, p);
    if (type == ETH_P_ARP)
        return parse_arp(cursor, end, p);
    return PARSE_NOT_IP;
}

#endif
