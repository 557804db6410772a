// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The capture: what programs in a cgroup connect to goes to the agent on this host, where a rule says so; they go on
 * seeing the peer that they asked for. connect: decided and redirected. sock_ops: the port of the program's end is
 * known only now, told to the agent. getpeername: the answer is what was asked for. The agent is in another cgroup.
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

static __always_inline enum decision remember(struct bpf_sock_addr* ctx, const struct tandem_capture_place* to) {
    struct tandem_capture_place* kept = 0;
    if (ctx->sk)
        kept = bpf_sk_storage_get(&destinations, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!kept)
        return REFUSE;
    *kept = *to;
    return REDIRECT;
}

static __always_inline enum decision decide(struct bpf_sock_addr* ctx, const struct tandem_capture_place* to,
                                            struct tandem_capture_place* via) {
    __u32 zero = 0;
    const struct tandem_capture_settings* set = bpf_map_lookup_elem(&settings, &zero);
    if (!set || is_own(to) || !is_wanted(to))
        return LEAVE;
    if (bpf_get_netns_cookie(ctx) != set->network) { /* its 127.0.0.1 is another */
        count(TANDEM_CAPTURE_ELSEWHERE);
        return LEAVE;
    }
    *via = to->family == 4 ? set->proxy4 : set->proxy6;
    if (!via->family || remember(ctx, to) != REDIRECT) {
        count(TANDEM_CAPTURE_UNREADY);
        return REFUSE;
    }
    count(TANDEM_CAPTURE_CONNECTIONS);
    return REDIRECT;
}

/* A socket that was captured and connects anew to what is not. */
static __always_inline void forget(struct bpf_sock_addr* ctx) {
    if (ctx->sk)
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

SEC("cgroup/connect4")
int tandem_connect4(struct bpf_sock_addr* ctx) {
    struct tandem_capture_place via, to = {.protocol = ctx->protocol, .port = ctx->user_port};
    set_ip4(&to, ctx->user_ip4);
    const enum decision what = decide(ctx, &to, &via);
    if (what == REDIRECT)
        write_ip4(ctx, &via);
    else
        forget(ctx);
    return what != REFUSE;
}

SEC("cgroup/connect6")
int tandem_connect6(struct bpf_sock_addr* ctx) {
    struct tandem_capture_place via, to = {.protocol = ctx->protocol, .port = ctx->user_port};
    set_ip6(&to, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    const enum decision what = decide(ctx, &to, &via);
    if (what == REDIRECT)
        write_ip6(ctx, &via);
    else
        forget(ctx);
    return what != REFUSE;
}

static __always_inline const struct tandem_capture_place* kept_of(struct bpf_sock_addr* ctx) {
    return ctx->sk ? bpf_sk_storage_get(&destinations, ctx->sk, 0, 0) : 0;
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
    const struct tandem_capture_place* kept = bpf_sk_storage_get(&destinations, ops->sk, 0, 0);
    if (!kept)
        return 1;
    struct tandem_capture_place from = {.protocol = IPPROTO_TCP, .port = bpf_htons(ops->local_port)};
    if (kept->family == 4)
        set_ip4(&from, ops->local_ip4);
    else
        set_ip6(&from, ops->local_ip6[0], ops->local_ip6[1], ops->local_ip6[2], ops->local_ip6[3]);
    bpf_map_update_elem(&connections, &from, kept, BPF_ANY);
    return 1;
}
