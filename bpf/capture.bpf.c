// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The capture: what programs in a cgroup connect to goes to the agent on this host, where a rule says so; they go on
 * seeing the peer that they asked for. connect: decided and redirected. sock_ops: the port of the program's end is
 * known only now, told to the agent. getpeername: the answer is what was asked for. Datagrams that are sent unconnected
 * go by a door of their destination; recvmsg tells who is behind the door. The agent is in another cgroup.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/capture_maps.h"

char capture_license[] SEC("license") = "Dual BSD/GPL";

enum { AF_INET = 2, AF_INET6 = 10 };
enum decision { LEAVE, REDIRECT, REFUSE };

static __always_inline void set_ip4(struct tandem_capture_place* p, __u32 ip) {
    p->family = 4;
    __builtin_memcpy(p->ip, &ip, sizeof(ip));
}

static __always_inline void set_ip6(struct tandem_capture_place* p, __u32 a, __u32 b, __u32 c, __u32 d) {
    if (a == 0 && b == 0 && c == bpf_htonl(0xffff))
        return set_ip4(p, d);
    __u32 ip[4] = {a, b, c, d};
    p->family = 6;
    __builtin_memcpy(p->ip, ip, sizeof(ip));
}

/* The host itself, 0.0.0.0 and :: included. */
static __always_inline int is_own(const struct tandem_capture_place* p) {
    __u32 word[4];
    __builtin_memcpy(word, p->ip, sizeof(word));
    if (p->family == 4)
        return p->ip[0] == 127 || word[0] == 0;
    return word[0] == 0 && word[1] == 0 && word[2] == 0 && (word[3] == bpf_htonl(1) || word[3] == 0);
}

static __always_inline int is_wanted(const struct tandem_capture_place* to) {
    struct tandem_capture_rule key = {.prefix_length = TANDEM_CAPTURE_RULE_FIXED_BITS + 128,
                                      .family = to->family,
                                      .protocol = to->protocol,
                                      .port = to->port};
    __builtin_memcpy(key.ip, to->ip, sizeof(key.ip));
    __u8* action = bpf_map_lookup_elem(&rules, &key);
    if (!action) {
        key.port = 0;
        action = bpf_map_lookup_elem(&rules, &key);
    }
    return action && *action == TANDEM_CAPTURE_TAKE;
}

static __always_inline void add_user(__u32 door, int n) {
    const __u32 index = door - 1;
    struct tandem_capture_door* d = door ? bpf_map_lookup_elem(&doors, &index) : 0;
    if (d)
        __sync_fetch_and_add(&d->users, n);
}

/* 1 + the index of the door of that destination; 0: none is free. */
static __always_inline __u32 open_door(const struct tandem_capture_place* to) {
    __u32 fresh, *index = bpf_map_lookup_elem(&door_of, to);
    if (index)
        return *index + 1;
    if ((to->family == 4 ? bpf_map_pop_elem(&free4, &fresh) : bpf_map_pop_elem(&free6, &fresh)) != 0)
        return 0;
    struct tandem_capture_door* d = bpf_map_lookup_elem(&doors, &fresh);
    if (!d)
        return 0;
    d->destination = *to;
    if (bpf_map_update_elem(&door_of, to, &fresh, BPF_NOEXIST) == 0)
        return fresh + 1;
    index = bpf_map_lookup_elem(&door_of, to); /* another was faster; the agent frees ours as one that is idle */
    return index ? *index + 1 : 0;
}

static __always_inline int remember(struct bpf_sock_addr* ctx, const struct tandem_capture_place* to, __u32 door) {
    struct tandem_capture_kept* kept = 0;
    if (ctx->sk)
        kept = bpf_sk_storage_get(&destinations, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!kept)
        return 0;
    add_user(door, 1);
    add_user(kept->door, -1);
    kept->to = *to;
    kept->door = door;
    return 1;
}

static __always_inline void choose(const struct tandem_capture_settings* set, const struct tandem_capture_place* to,
                                   struct tandem_capture_place* via, __u32* door) {
    *door = 0;
    if (to->protocol != IPPROTO_UDP) {
        *via = to->family == 4 ? set->proxy4 : set->proxy6;
        return;
    }
    *door = open_door(to);
    const __u32 index = *door - 1;
    const struct tandem_capture_door* d = *door ? bpf_map_lookup_elem(&doors, &index) : 0;
    if (d)
        *via = d->at;
    else
        via->family = 0;
}

static __always_inline enum decision decide(struct bpf_sock_addr* ctx, const struct tandem_capture_place* to,
                                            struct tandem_capture_place* via, int connects) {
    __u32 door, zero = 0;
    const struct tandem_capture_settings* set = bpf_map_lookup_elem(&settings, &zero);
    if (!set || is_own(to) || !is_wanted(to))
        return LEAVE;
    if (bpf_get_netns_cookie(ctx) != set->network) { /* its 127.0.0.1 is another */
        count(TANDEM_CAPTURE_ELSEWHERE);
        return LEAVE;
    }
    choose(set, to, via, &door);
    if (!via->family || (connects && !remember(ctx, to, door))) {
        count(TANDEM_CAPTURE_UNREADY);
        return REFUSE;
    }
    count(TANDEM_CAPTURE_CONNECTIONS);
    return REDIRECT;
}

/* A socket that was captured and connects anew to what is not. */
static __always_inline void forget(struct bpf_sock_addr* ctx) {
    const struct tandem_capture_kept* kept = ctx->sk ? bpf_sk_storage_get(&destinations, ctx->sk, 0, 0) : 0;
    if (!kept)
        return;
    add_user(kept->door, -1);
    bpf_sk_storage_delete(&destinations, ctx->sk);
}

static __always_inline void write_ip6(struct bpf_sock_addr* ctx, const struct tandem_capture_place* p) {
    __u32 ip[4];
    __builtin_memcpy(ip, p->ip, sizeof(ip));
    const int mapped = p->family == 4;
    ctx->user_ip6[0] = mapped ? 0 : ip[0];
    ctx->user_ip6[1] = mapped ? 0 : ip[1];
    ctx->user_ip6[2] = mapped ? bpf_htonl(0xffff) : ip[2];
    ctx->user_ip6[3] = mapped ? ip[0] : ip[3];
    ctx->user_port = p->port;
}

static __always_inline void write_ip4(struct bpf_sock_addr* ctx, const struct tandem_capture_place* p) {
    __u32 ip;
    __builtin_memcpy(&ip, p->ip, sizeof(ip));
    ctx->user_ip4 = ip;
    ctx->user_port = p->port;
}

static __always_inline int redirect4(struct bpf_sock_addr* ctx, int connects) {
    struct tandem_capture_place via, to = {.protocol = ctx->protocol, .port = ctx->user_port};
    set_ip4(&to, ctx->user_ip4);
    const enum decision what = decide(ctx, &to, &via, connects);
    if (what == REDIRECT)
        write_ip4(ctx, &via);
    else if (connects)
        forget(ctx);
    return what != REFUSE;
}

static __always_inline int redirect6(struct bpf_sock_addr* ctx, int connects) {
    struct tandem_capture_place via, to = {.protocol = ctx->protocol, .port = ctx->user_port};
    set_ip6(&to, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    const enum decision what = decide(ctx, &to, &via, connects);
    if (what == REDIRECT)
        write_ip6(ctx, &via);
    else if (connects)
        forget(ctx);
    return what != REFUSE;
}

SEC("cgroup/connect4")
int tandem_connect4(struct bpf_sock_addr* ctx) {
    return redirect4(ctx, 1);
}

SEC("cgroup/connect6")
int tandem_connect6(struct bpf_sock_addr* ctx) {
    return redirect6(ctx, 1);
}

SEC("cgroup/sendmsg4")
int tandem_send4(struct bpf_sock_addr* ctx) {
    return redirect4(ctx, 0);
}

SEC("cgroup/sendmsg6")
int tandem_send6(struct bpf_sock_addr* ctx) {
    return redirect6(ctx, 0);
}

/* Whose door a datagram came by: from whom it is. */
static __always_inline const struct tandem_capture_place* sender(struct bpf_sock_addr* ctx,
                                                                 const struct tandem_capture_place* at) {
    __u32 zero = 0;
    const struct tandem_capture_settings* set = bpf_map_lookup_elem(&settings, &zero);
    const __u32* index = bpf_map_lookup_elem(&door_at, at);
    if (!index || !set || bpf_get_netns_cookie(ctx) != set->network)
        return 0;
    const struct tandem_capture_door* d = bpf_map_lookup_elem(&doors, index);
    return d && d->destination.family ? &d->destination : 0;
}

SEC("cgroup/recvmsg4")
int tandem_receive4(struct bpf_sock_addr* ctx) {
    struct tandem_capture_place at = {.protocol = IPPROTO_UDP, .port = ctx->user_port};
    set_ip4(&at, ctx->user_ip4);
    const struct tandem_capture_place* from = sender(ctx, &at);
    if (from)
        write_ip4(ctx, from);
    return 1;
}

SEC("cgroup/recvmsg6")
int tandem_receive6(struct bpf_sock_addr* ctx) {
    struct tandem_capture_place at = {.protocol = IPPROTO_UDP, .port = ctx->user_port};
    set_ip6(&at, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    const struct tandem_capture_place* from = sender(ctx, &at);
    if (from)
        write_ip6(ctx, from);
    return 1;
}

SEC("cgroup/sock_release")
int tandem_release(struct bpf_sock* sk) {
    const struct tandem_capture_kept* kept = bpf_sk_storage_get(&destinations, sk, 0, 0);
    if (kept)
        add_user(kept->door, -1);
    return 1;
}

static __always_inline const struct tandem_capture_place* kept_of(struct bpf_sock_addr* ctx) {
    const struct tandem_capture_kept* kept = ctx->sk ? bpf_sk_storage_get(&destinations, ctx->sk, 0, 0) : 0;
    return kept ? &kept->to : 0;
}

SEC("cgroup/getpeername4")
int tandem_peer4(struct bpf_sock_addr* ctx) {
    const struct tandem_capture_place* kept = kept_of(ctx);
    if (kept)
        write_ip4(ctx, kept);
    return 1;
}

SEC("cgroup/getpeername6")
int tandem_peer6(struct bpf_sock_addr* ctx) {
    const struct tandem_capture_place* kept = kept_of(ctx);
    if (kept)
        write_ip6(ctx, kept);
    return 1;
}

SEC("sockops")
int tandem_sockops(struct bpf_sock_ops* ops) {
    if (ops->op != BPF_SOCK_OPS_TCP_CONNECT_CB || !ops->sk)
        return 1;
    const struct tandem_capture_kept* kept = bpf_sk_storage_get(&destinations, ops->sk, 0, 0);
    if (!kept)
        return 1;
    struct tandem_capture_place from = {.protocol = IPPROTO_TCP, .port = bpf_htons(ops->local_port)};
    if (kept->to.family == 4)
        set_ip4(&from, ops->local_ip4);
    else
        set_ip6(&from, ops->local_ip6[0], ops->local_ip6[1], ops->local_ip6[2], ops->local_ip6[3]);
    bpf_map_update_elem(&connections, &from, &kept->to, BPF_ANY);
    return 1;
}
