/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The capture's maps; what they hold: capture_layout.h. */
#ifndef TANDEM_BPF_CAPTURE_MAPS_H
#define TANDEM_BPF_CAPTURE_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/capture_layout.h"

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, TANDEM_CAPTURE_MAX_RULES);
    __type(key, struct tandem_capture_rule);
    __type(value, __u8); /* enum tandem_capture_action */
} rules SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tandem_capture_settings);
} settings SEC(".maps");

/* Where a program's socket was to go: with the socket, and gone with it. */
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct tandem_capture_kept);
} destinations SEC(".maps");

/* The same by the program's end of its connection, for the agent, which knows that one only and takes it out when it
 * accepts. What it never accepts (a full listener) is evicted, or overwritten by that port's next connection. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, TANDEM_CAPTURE_MAX_CONNECTIONS);
    __type(key, struct tandem_capture_place);
    __type(value, struct tandem_capture_place);
} connections SEC(".maps");

/* The agent reads it in its memory. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, TANDEM_CAPTURE_MAX_DOORS);
    __type(key, __u32);
    __type(value, struct tandem_capture_door);
} doors SEC(".maps");

/* Indices; first in, first out: a door rests as long as it can before it stands for another destination. */
struct {
    __uint(type, BPF_MAP_TYPE_QUEUE);
    __uint(max_entries, TANDEM_CAPTURE_MAX_DOORS);
    __type(value, __u32);
} free4 SEC(".maps"), free6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TANDEM_CAPTURE_MAX_DOORS);
    __type(key, struct tandem_capture_place); /* destination */
    __type(value, __u32);
} door_of SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TANDEM_CAPTURE_MAX_DOORS);
    __type(key, struct tandem_capture_place); /* at */
    __type(value, __u32);
} door_at SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, TANDEM_CAPTURE_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 what) {
    __u64* n = bpf_map_lookup_elem(&counters, &what);
    if (n)
        ++*n;
}

#endif
