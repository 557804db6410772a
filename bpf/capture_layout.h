/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layout of the capture's maps (capture_maps.h), shared with user space (loader/capture.cpp), which writes rules and
 * settings before anything is attached. Ports are in network order. IPv4 is in the first four bytes, the others are 0;
 * an IPv6 socket's ::ffff:a.b.c.d is IPv4. */
#ifndef TANDEM_BPF_CAPTURE_LAYOUT_H
#define TANDEM_BPF_CAPTURE_LAYOUT_H

#include <linux/types.h>

enum {
    TANDEM_CAPTURE_MAX_RULES = 256,
    TANDEM_CAPTURE_MAX_CONNECTIONS = 65536,
    TANDEM_CAPTURE_MAX_DOORS = 256,
    TANDEM_CAPTURE_RULE_FIXED_BITS = 32, /* family, protocol and port, before the address */
};

/* Key of the trie; the longest prefix counts, of the rules for this very port first, then of those for any (0). */
struct tandem_capture_rule {
    __u32 prefix_length; /* TANDEM_CAPTURE_RULE_FIXED_BITS and the address's */
    __u8 family;         /* 4, 6 */
    __u8 protocol;       /* IPPROTO_TCP, IPPROTO_UDP */
    __u16 port;
    __u8 ip[16];
};

enum tandem_capture_action { TANDEM_CAPTURE_LEAVE, TANDEM_CAPTURE_TAKE };

struct tandem_capture_place {
    __u8 ip[16];
    __u16 port;
    __u8 family; /* 4, 6; 0: none */
    __u8 protocol;
};

/* With a program's socket. */
struct tandem_capture_kept {
    struct tandem_capture_place to;
    __u32 door; /* 1 + its index, of a connected UDP socket; 0: none */
};

/* A UDP port of the agent that stands for one destination, so that both sides tell datagrams' destinations apart. The
 * program opens it (a free one from the queue); the agent closes it once it is idle and no socket is connected to it.
 */
struct tandem_capture_door {
    struct tandem_capture_place at;
    struct tandem_capture_place destination; /* family 0: free */
    __u32 users;                             /* connected sockets; atomic */
    __u32 unused;
};

struct tandem_capture_settings {
    __u64 network;                              /* cookie of the network namespace that the proxy is in */
    struct tandem_capture_place proxy4, proxy6; /* TCP's; 127.0.0.1 and ::1 */
};

enum tandem_capture_counter {
    TANDEM_CAPTURE_CONNECTIONS, /* captured: connects, and datagrams that are sent unconnected */
    TANDEM_CAPTURE_ELSEWHERE,   /* not captured: from another network namespace */
    TANDEM_CAPTURE_UNREADY,     /* refused: wanted, but there is no proxy of that family, no free door, or no memory */
    TANDEM_CAPTURE_COUNTERS,
};

#endif
