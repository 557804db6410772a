// SPDX-License-Identifier: Apache-2.0
// THE CONTRACT between the control plane (or a test) and the data plane.
//
// Transport: AF_UNIX SOCK_SEQPACKET, path from the data plane's configuration, mode 0600. One message = one datagram:
// `header` followed by `count` items of the type that the message type names. Host byte order (same machine), fixed
// widths, sizes asserted. Every request gets exactly one reply with the same sequence; events have sequence 0.
// A message of another contract version is refused whole (bad_version and a sentence), HELLO too.
// A new connection sends HELLO first. One controlling connection at a time: a later HELLO takes over, and the earlier
// connection is closed. When it closes, flows stay (the control plane may die; it takes them over by FLOW_LIST).
//
// A flow is named by its in-side's local address and port: flow_id = address index << 16 | port. The address index is
// the position in HELLO_REPLY's address list. Whoever adds a flow owns port allocation.
//
// Keys travel only from the control plane to the data plane, never back. Whoever held a message with a key wipes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "dataplane/api/suites.hpp"

namespace tandem::api {

inline constexpr std::uint32_t contract_magic = 0x544e444d; // "TNDM"
inline constexpr std::uint16_t contract_version = 6;
inline constexpr std::size_t contract_max_message = 64 * 1024;
inline constexpr std::size_t max_addresses = 64;

enum class message_type : std::uint16_t {
    hello = 0,          // hello                -> hello_reply + address_entry[count]
    flow_add = 2,       // flow_config[count]   -> item_status[count]   value: its slot in the stats segment
    flow_update = 4,    // flow_update[count]   -> item_status[count]   remotes, source policy, timeout; keys untouched
    flow_remove = 6,    // flow_ref[count]      -> item_status[count]   keys are wiped before the reply
    flow_list = 8,      // list_request         -> flow_entry[count]    pages; the last page has count < list_page
    epoch_install = 10, // epoch_key[count]    -> item_status[count]   in: accepted at once; out: held ready
    epoch_switch = 12,  // epoch_ref[count]     -> item_status[count]   out-side sends under this epoch from now on
    epoch_retire = 14,  // epoch_ref[count]     -> item_status[count]   key wiped before the reply
    port_list = 16,     // (none)               -> port_entry[count]
    flow_replace = 20,  // flow_replacement[count] -> item_status[count]   value: its slot in the stats segment
    stream_put = 22,    // stream_item[count]   -> item_status[count]   state into a side that has no key yet
    stream_list = 24,   // list_request         -> stream_item[count]   pages; the last page has count 0
    health = 26,        // (none)               -> health_entry[count]   every worker, then every port
    inner_set =
        28, // inner_perimeter[count] -> item_status[count]          value: how many of its `from` are ports here
    source_prove = 30,  // proven_source[count] -> item_status[count]   not of the crowd whose handshakes have one limit
    packet_out = 32,    // (packet_out + bytes)[count] -> item_status[count]   ok: it leaves, or waits for a neighbour
    trace_start = 64,   // trace_request        -> observe_reply + port_entry[count]   observers: sight.hpp
    capture_start = 66, // capture_request      -> observe_reply + port_entry[count]
    error_reply = 255,  // contract_error       the request as a whole was refused
    event = 256,        // flow_event[count]    data plane -> control plane, sequence 0
    trace_records = 257,   // trace_record[count]   data plane -> observer, sequence 0
    capture_records = 258, // capture_record + bytes, count times
    observe_end = 259,     // observe_end
    packet_in = 260,       // packet_in + bytes, count times   data plane -> control plane, sequence 0
};
// A reply's type is its request's + 1. What a request's and a reply's items are, items_of says (below, and sight.hpp).
[[nodiscard]] constexpr message_type reply_to(message_type request) noexcept {
    return static_cast<message_type>(static_cast<std::uint16_t>(request) + 1);
}

enum class status : std::uint16_t {
    ok = 0,
    bad_message, // lengths, count, magic
    bad_version,
    unknown_flow,
    flow_exists,
    bad_address, // address index not configured, or family mismatch between flow and remote
    bad_port,    // port 0, or outside the range
    bad_suite,
    bad_key_length,
    bad_epoch,       // epoch not installed, or installed already with another key
    too_many_epochs, // three are in force; retire one first
    table_full,
    bad_timeout,
    not_permitted,   // peer is not the configured user
    not_controlling, // another connection took over
    busy,            // another observer's trace or capture runs
    not_possible,    // what was asked cannot be done now; the text says why
    bad_state,       // a state that cannot be true, or one that has no place there
    not_yours,       // a flow of another media (tag)
    group_refused,   // nothing wrong with this item, but with another of its group
};

struct contract_header {
    std::uint32_t magic;
    std::uint16_t version;
    message_type type;
    std::uint32_t sequence;
    std::uint16_t count;
    std::uint16_t reserved;
};
static_assert(sizeof(contract_header) == 16);

// IPv4 as IPv4-mapped IPv6 (::ffff:a.b.c.d), network byte order; port in host byte order.
struct net_address {
    std::uint8_t ip[16];
    std::uint16_t port;
    std::uint8_t reserved[6];
};
static_assert(sizeof(net_address) == 24);

struct hello {
    std::uint32_t contract_version;
    std::uint32_t pid;
};

struct hello_reply {
    std::uint32_t max_flows;
    std::uint32_t flows;       // now in force
    std::uint64_t generation;  // of the flow-state memory: changes when flows were lost (fresh memory)
    std::uint64_t started_ns;  // CLOCK_REALTIME of this process's start
    std::uint32_t restarts;    // of the data plane on this flow-state memory
    std::uint32_t last_gap_ms; // workers' silence at the last restart
    char stats_path[64];       // the read-only stats segment
};
static_assert(sizeof(hello_reply) == 96);

struct address_entry {
    std::uint8_t ip[16];
    std::uint32_t index;
    char name[12]; // the configuration's logical name ("access", "core"), NUL padded
};
static_assert(sizeof(address_entry) == 32);

using flow_id = std::uint32_t;
[[nodiscard]] constexpr flow_id make_flow_id(std::uint32_t address_index, std::uint16_t port) noexcept {
    return address_index << 16 | port;
}

enum class side : std::uint8_t { in = 0, out = 1 };

// What a flow's ports carry (RFC 5761 tells RTP from RTCP where both come to one port).
enum carries : std::uint8_t { carries_rtp = 1, carries_rtcp = 2 };

// Who may send to the in-side, and where the leg is then.
enum class source_policy : std::uint8_t {
    authenticated, // SRTP: whoever authenticates; a new address latches (moves the reverse flow's remote)
    signalled,     // clear: only the two addresses that signalling names; media goes where signalling says
    learned,  // clear: for `window_ms` from the first packet on, whoever is likeliest (source_rule), and media goes
              // there; then only that address, until a flow_update
    followed, // clear: whoever sends, and media goes where the last packet came from
};

// Why a source was taken for the leg's. The later, the likelier: within the window it takes the place of an earlier
// one.
enum class source_rule : std::uint8_t {
    none,
    anyone,        // nobody likelier spoke
    network,       // a neighbour of a signalled address (/24, /64)
    received_from, // the address that the SIP message came from
    address,       // the signalled address, another port
    signalled,     // address and port as signalled
    followed,      // source_policy::followed
    authenticated,
};

// How one side is protected.
struct side_config {
    api::suite suite;
    std::uint8_t mki_length; // 0 = no MKI on the wire, else 1..4 (Tandem's own secondaries: 4)
    std::uint8_t reserved;
};
static_assert(sizeof(side_config) == 4);

// The address alone counts where a port is 0 (source_policy::signalled).
struct source_config {
    source_policy policy;
    std::uint8_t strict_port; // learned: after the window the port counts, too
    std::uint16_t window_ms;  // learned
    std::uint8_t anew;        // FLOW_REPLACE: what was heard does not go along
    std::uint8_t reserved[3];
    net_address signalled;     // in the SDP; address 0 = none
    net_address received_from; // of the SIP message; address 0 = none
};
static_assert(sizeof(source_config) == 56);

// Where a flow's packets leave from and go to.
struct route_config {
    flow_id rtp_out;        // local address and port that RTP leaves from (the reverse flow's in-side)
    flow_id rtcp_out;       // likewise RTCP; equals rtp_out where the out-leg muxes
    net_address rtp_remote; // port 0 = not known yet (drop no_remote until learned or updated)
    net_address rtcp_remote;
};
static_assert(sizeof(route_config) == 56);

struct flow_config {
    flow_id id;        // in-side local address and port
    flow_id reverse;   // flow whose out remote follows this flow's source when it latches; 0 = none. Only what
                       // this flow carries moves: rtp_remote by carries_rtp, rtcp_remote by carries_rtcp
    std::uint64_t tag; // the control plane's own mark (media id), returned in lists and events
    side_config in;
    side_config out;
    std::uint8_t carries; // carries_rtp | carries_rtcp
    std::uint8_t dscp;    // 0..63, of what is sent
    std::uint8_t flags;   // flow_flags
    // Payload types of retransmissions (RFC 4588), whose original sequence numbers follow a moved stream's; 0 = none.
    std::uint8_t retransmissions[3];
    std::uint16_t timeout_s; // silence after which flow_timeout is reported; 0 = never
    source_config source;
    route_config route;
};
static_assert(sizeof(flow_config) == 32 + sizeof(source_config) + sizeof(route_config));

enum flow_flags : std::uint8_t {
    flow_paused = 1, // received, authenticated and counted, but not forwarded (hold, a=inactive)
    // What is no media goes up to the control plane (PACKET_IN), whoever sent it; without these it is dropped.
    flow_punts_stun = 2,
    flow_punts_dtls = 4,
    flow_punts_control = 8, // of a clear tunnel; not together with DTLS (bad_state)
};

struct flow_update {
    flow_id id;
    std::uint8_t mask; // update_mask
    std::uint8_t flags;
    std::uint8_t dscp;
    std::uint8_t reserved0;
    std::uint16_t timeout_s;
    std::uint16_t reserved1;
    flow_id reverse;
    source_config source;
    route_config route;
};
static_assert(sizeof(flow_update) == 16 + sizeof(source_config) + sizeof(route_config));

enum update_mask : std::uint8_t {
    update_source = 1, // source; what was heard counts no longer, `learned` begins anew
    update_remote = 2, // route
    update_flags = 4,
    update_timeout = 8,
    update_dscp = 16,
    update_reverse = 32,
};

struct flow_ref {
    flow_id id;
};

// An epoch's master key for one side.
struct epoch_key {
    flow_id id;
    api::side side;
    std::uint8_t key_length;
    std::uint8_t salt_length;
    std::uint8_t reserved;
    std::uint32_t epoch; // the control plane's number: names the key
    // On the wire where the side has an MKI. Two keys in force on a side may not share it; the value of a retired one
    // may come again. Tandem's own secondaries: the epoch.
    std::uint32_t mki;
    std::uint8_t key[max_key_length];
    std::uint8_t salt[16]; // salt_length used
};
static_assert(sizeof(epoch_key) == 16 + 32 + 16);

struct epoch_ref {
    flow_id id;
    std::uint32_t epoch;
    api::side side;
    std::uint8_t reserved[3];
};
static_assert(sizeof(epoch_ref) == 12);

struct item_status {
    std::uint32_t id; // of the request's item
    api::status status;
    std::uint16_t reserved;
    std::uint32_t value; // FLOW_ADD, ok: the flow's slot in the stats segment (flow_entry::stats_index); else 0
};
static_assert(sizeof(item_status) == 12);

struct list_request {
    std::uint32_t after;     // flow ids above this; 0 = from the start
    std::uint32_t has_after; // 0 = from the start
};

inline constexpr std::size_t list_page = 256;

struct flow_entry {
    flow_config config;         // remotes as they are now (latched)
    std::uint32_t in_epochs[3]; // installed epochs, newest first
    std::uint32_t out_epochs[3];
    std::uint8_t in_epoch_count;
    std::uint8_t out_epoch_count;
    std::uint8_t latched;
    std::uint8_t worker;
    std::uint32_t sending_epoch; // of the out-side
    std::uint32_t stats_index;   // slot in the stats segment's flow array
    source_rule rule;            // by which `source` was taken
    std::uint8_t reserved[3];
    net_address source;            // the leg's; port 0 = none yet
    std::uint64_t source_since_ns; // CLOCK_MONOTONIC
};
static_assert(sizeof(flow_entry) == sizeof(flow_config) + 24 + 16 + 24 + 8);
static_assert(sizeof(contract_header) + list_page * sizeof(flow_entry) <= contract_max_message);

// Packets of one SSRC that were accepted (in) or sent (out), as packet indices (RFC 3711 3.3.1; RTP: 2^16 * ROC + SEQ).
struct window_state {
    std::uint64_t next;    // highest index + 1; 0 = none yet
    std::uint64_t seen[2]; // bit i (the least significant of [0] first): index next - 1 - i was accepted or sent
};
static_assert(sizeof(window_state) == 24);

// One SSRC of one side (RFC 3711 3.2.3).
struct stream_state {
    std::uint32_t ssrc;
    std::uint16_t offset; // out: sequence number on the wire minus the source's
    std::uint16_t reserved;
    window_state rtp;
    window_state rtcp; // out: only `next` counts, the next SRTCP index
};
static_assert(sizeof(stream_state) == 56);

// STREAM_PUT: all items of one side are put or none. bad_state: an index beyond 2^48 (RTP) or 2^31 (RTCP), a seen bit
// of an index below 0, the newest index not seen, an SSRC twice, more than a side holds, or a side that has keys
// already.
struct stream_item {
    flow_id id;
    api::side side;
    std::uint8_t reserved[3];
    stream_state state;
};
static_assert(sizeof(stream_item) == 64);

enum class key_choice : std::uint8_t {
    keep,  // the old ones' epochs go along, where suite and MKI length are the same
    fresh, // none of them; the first one is given here
};

// A flow that takes the place of others of its media (tag), with their state. Every flow that a group of items names,
// or whose id one of its configurations has, is replaced: gone the moment the new ones are there, between two packets.
//
// A side goes on where the old ones of the same suite were: indices, windows, SRTCP index, packet counts of keys; for a
// key that is given as fresh, too (RFC 3711 3.3.1), and where it equals one of the old ones', whatever its number. A
// side of another suite begins anew. Two flows are joined (mux) where one carries RTP, the other RTCP; where one is
// named by two, each gets all of it (un-mux). Counters go along by what the flows carry.
//
// The source that was heard goes along where the policy stays and `anew` is not set. A remote with port 0 stays where
// it was, latched or not; another one is in force until somebody authenticates from elsewhere.
struct flow_replacement {
    flow_config config;
    std::uint32_t group; // consecutive items of one group take force at once, or none does (group_refused)
    flow_id in_from[2];  // flows whose in-side's state this one's takes; 0 = none
    flow_id out_from[2]; // likewise the out-side's
    key_choice in_keys;
    key_choice out_keys;
    std::uint8_t reserved[2];
    epoch_key in_key; // fresh: installed (out: and sent under) when the flow takes force; key_length 0 = none
    epoch_key out_key;
};
static_assert(sizeof(flow_replacement) == sizeof(flow_config) + 24 + 2 * sizeof(epoch_key));

struct port_entry {
    char name[16];
    std::uint32_t ifindex;
    std::uint16_t mtu;
    std::uint8_t mac[6];
    char xdp_mode[12]; // "driver", "generic", "none"
    std::uint32_t queues;
    std::uint32_t reserved;
};
static_assert(sizeof(port_entry) == 48);

// How well the data plane is, by the parts that can fail. That the control thread is alive, its answer says.
enum class health_kind : std::uint8_t { worker, port };
enum class health_state : std::uint8_t {
    ok,
    // Worker: a packet of the data plane's own goes through its whole path a few times a second.
    no_answer, // it is still on its way
    wrong,     // it was dropped, or came out other than it should
    no_buffer, // there was none for it
    // Port, looked at as often.
    interface_gone,
    interface_down,
    no_program,      // nobody's XDP program is attached any more
    foreign_program, // another's is
    no_socket,       // a queue has no AF_XDP socket in the program's map
    no_carrier,      // nothing answers at the other end: told, but no fault of the data plane's
};

struct health_entry {
    health_kind kind;
    health_state state; // as it was seen last
    std::uint16_t index;
    std::uint32_t age_ms; // since it was last seen well; no_carrier is well enough
    char name[16];        // of a port: its interface
};
static_assert(sizeof(health_entry) == 24);

// Where packets of the inner network may come from, beside the tunnels: a port drops frames to or from `network`,
// unless `from` names its interface. In force for good once it was said: also when the control plane is gone, and for
// the data planes that follow this one.
inline constexpr std::size_t max_inner_networks = 4, max_inner_from = 16;
struct inner_network {
    std::uint8_t ip[16];
    std::uint8_t prefix_length; // 0 to 128; IPv4: its own and 96
    std::uint8_t reserved[3];
};
struct inner_perimeter {
    std::uint32_t id;       // returned
    std::uint16_t networks; // used of `network`
    std::uint16_t ports;    // used of `from`
    inner_network network[max_inner_networks];
    char from[max_inner_from][16]; // interfaces
};
static_assert(sizeof(inner_perimeter) == 8 + 4 * 20 + 16 * 16);

// A unit has authenticated from this address.
struct proven_source {
    std::uint32_t id; // returned
    std::uint8_t ip[16];
};
static_assert(sizeof(proven_source) == 20);

// A packet that a worker handed up because its flow asks for it (flow_flags), and one that goes out from a flow's port
// in answer. Told apart by the first byte (RFC 7983; dataplane/rtp/demux.hpp). Followed by `length` bytes of UDP
// payload, padded to a multiple of 8. PACKET_IN is bounded and rate-limited and may be lost; nobody has authenticated
// it. PACKET_OUT is sent under the flow's DSCP; only what the flow would hand up itself may be sent (bad_state), so it
// is never media.
enum class packet_kind : std::uint8_t { none, stun, dtls, control };
inline constexpr std::size_t max_packet_bytes = 1500;
[[nodiscard]] constexpr std::size_t padded_packet(std::size_t length) noexcept {
    return (length + 7) / 8 * 8;
}

struct packet_in {
    std::uint64_t time_ns; // CLOCK_MONOTONIC, of its burst
    std::uint64_t tag;     // the flow's
    flow_id id;            // of the flow: the local address and port that it came to
    std::uint16_t length;  // 1..max_packet_bytes
    packet_kind kind;
    std::uint8_t reserved;
    net_address source;
};
static_assert(sizeof(packet_in) == 48);

struct packet_out {
    flow_id id;           // of the flow: the local address and port that it leaves from
    std::uint16_t length; // 1..max_packet_bytes
    std::uint16_t reserved;
    net_address destination;
};
static_assert(sizeof(packet_out) == 32);

struct contract_error {
    api::status status;
    std::uint16_t reserved;
    char text[124];
};
static_assert(sizeof(contract_error) == 128);

enum class event_type : std::uint16_t {
    flow_timeout = 1, // no accepted packet for timeout_s; reported once per silence
    flow_active,      // first accepted packet, or the first after a reported silence
    flow_latched,     // `address` is the leg's new one, by `rule`
    key_limit,        // 7/8 of the packets that one key may protect are used (RFC 3711 9.2)
    epoch_first_use,  // first packet authenticated under `epoch` on the in-side
};

struct flow_event {
    event_type type;
    source_rule rule; // flow_latched
    std::uint8_t reserved;
    flow_id id;
    std::uint64_t tag;
    std::uint32_t epoch;
    std::uint32_t reserved1;
    net_address address;
};
static_assert(sizeof(flow_event) == 48);

// What a message holds. Replies with something in front of their items: hello_reply, observe_reply.
struct no_item {};
template <class Request, class Reply>
struct item_types {
    using request = Request;
    using reply = Reply;
    static_assert(std::is_trivially_copyable_v<request> && std::is_trivially_copyable_v<reply>);
};
template <message_type>
struct items_of; // an unknown type does not compile
template <>
struct items_of<message_type::hello> : item_types<api::hello, address_entry> {};
template <>
struct items_of<message_type::flow_add> : item_types<flow_config, item_status> {};
template <>
struct items_of<message_type::flow_update> : item_types<api::flow_update, item_status> {};
template <>
struct items_of<message_type::flow_remove> : item_types<flow_ref, item_status> {};
template <>
struct items_of<message_type::flow_list> : item_types<list_request, flow_entry> {};
template <>
struct items_of<message_type::epoch_install> : item_types<epoch_key, item_status> {};
template <>
struct items_of<message_type::epoch_switch> : item_types<epoch_ref, item_status> {};
template <>
struct items_of<message_type::epoch_retire> : item_types<epoch_ref, item_status> {};
template <>
struct items_of<message_type::port_list> : item_types<no_item, port_entry> {};
template <>
struct items_of<message_type::health> : item_types<no_item, health_entry> {};
template <>
struct items_of<message_type::flow_replace> : item_types<flow_replacement, item_status> {};
template <>
struct items_of<message_type::stream_put> : item_types<stream_item, item_status> {};
template <>
struct items_of<message_type::stream_list> : item_types<list_request, stream_item> {};
template <>
struct items_of<message_type::inner_set> : item_types<inner_perimeter, item_status> {};
template <>
struct items_of<message_type::source_prove> : item_types<proven_source, item_status> {};
template <>
struct items_of<message_type::packet_out> : item_types<api::packet_out, item_status> {};
template <>
struct items_of<message_type::packet_in> : item_types<api::packet_in, no_item> {};
template <>
struct items_of<message_type::error_reply> : item_types<contract_error, no_item> {};
template <>
struct items_of<message_type::event> : item_types<flow_event, no_item> {};
template <message_type type>
using request_of = typename items_of<type>::request;
template <message_type type>
using reply_of = typename items_of<type>::reply;

} // namespace tandem::api
