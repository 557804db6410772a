// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The streams' frames made in the kernel: run by BPF_PROG_TEST_RUN with live frames, each is numbered here and
 * redirected to the interface. Several times what a socket sends, for relays that a socket cannot overload. What it
 * writes is what traffic.cpp makes: sequence number, timestamp, SSRC, packet number, time of sending.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_PORTS 65536

char blast_license[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 interface = 0, streams = 1, port_count = 1, first_sequence = 1, first_ssrc = 0, samples = 160,
                     sources = 1;
const volatile __u32 first_source = 0; /* host order; the others follow */
__u64 next = 0;                        /* number of the next packet; one CPU runs this */
__u64 end_ns = 0;
__u64 due_ps = 0, step_ps = 0; /* when the next one is due, and then the next; 0 = as fast as it goes */

#define MAX_BACKLOG_PS 200000000ull /* what could not be sent in time is not sent in a burst later */
__u16 ports[MAX_PORTS];

struct frame {
    struct ethhdr ethernet;
    struct iphdr ip;
    struct udphdr udp;
    __u8 kind, payload_type;
    __be16 sequence;
    __be32 timestamp, ssrc;
    __be64 number, sent_ns;
} __attribute__((packed));

static __always_inline void come_from(struct frame* f, __u32 source) {
    f->ip.saddr = bpf_htonl(first_source + source);
    f->ip.check = 0;
    __u32 sum = bpf_csum_diff(0, 0, (void*)f + sizeof f->ethernet, sizeof f->ip, 0);
    sum = (sum & 0xffff) + (sum >> 16);
    f->ip.check = (__u16) ~(sum + (sum >> 16));
}

SEC("xdp")
int blast(struct xdp_md* ctx) {
    struct frame* f = (void*)(long)ctx->data;
    if ((void*)(f + 1) > (void*)(long)ctx->data_end)
        return XDP_DROP;
    __u64 now = bpf_ktime_get_ns(), now_ps = now * 1000, n = next;
    if (now >= end_ns || (step_ps && now_ps < due_ps))
        return XDP_DROP; /* not due: the frame is used again */
    if (due_ps + MAX_BACKLOG_PS < now_ps)
        due_ps = now_ps - MAX_BACKLOG_PS;
    due_ps += step_ps;
    next = n + 1;
    __u32 stream = n % streams;
    __u64 index = n / streams + first_sequence;
    f->udp.dest = bpf_htons(ports[stream % port_count & (MAX_PORTS - 1)]);
    if (sources > 1)
        come_from(f, n % sources);
    f->sequence = bpf_htons((__u16)index);
    f->timestamp = bpf_htonl((__u32)(index * samples));
    f->ssrc = bpf_htonl(first_ssrc + stream);
    f->number = bpf_cpu_to_be64(n);
    f->sent_ns = bpf_cpu_to_be64(now);
    return bpf_redirect(interface, 0);
}
