// SPDX-License-Identifier: Apache-2.0
// User space's side of the XDP edge: finds the maps of the program that is attached to an interface (DPDK's net_af_xdp
// attached it), writes what the edge decides by, reads its verdicts. Layout: dataplane/api/edge_maps.h.
// Owner: the data plane's control thread. No libbpf type shows here.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

#include "bpf/loader/lock_file.hpp"

namespace tandem::bpf {

inline constexpr std::string_view program_name = "tandem_edge";

enum class attach_mode : std::uint8_t { generic, driver, offload };
enum class attached_program : std::uint8_t { ours, none, other };

using result = tl::expected<void, std::string>; // the error is a sentence for the operator

// Path of the compiled edge: the build's where it exists, else the installed one; an error names both.
[[nodiscard]] tl::expected<std::string, std::string> object_path();

// While it lives, this process owns the interface: a lock per network namespace and interface, which goes with the
// process however it dies.
class interface_claim {
public:
    [[nodiscard]] static tl::expected<interface_claim, std::string> take(unsigned ifindex, std::string_view name);

private:
    explicit interface_claim(lock_file lock) noexcept : lock_(std::move(lock)) {}
    lock_file lock_;
};

// Refuses where another's program is attached. To be asked before DPDK has anything to do with the interface: when
// net_af_xdp closes a port it detaches whatever program is there.
[[nodiscard]] result refuse_foreign(unsigned ifindex, std::string_view name);

// Puts our loaded program on the interface (call with the claim held): at once in the place of one of ours that another
// process left, so that no packet meets an interface without one; refuses where another's program is attached. The mode
// is the kernel's choice, or the one before's.
struct attachment {
    bool replaced; // one of ours
    attach_mode mode;
};
[[nodiscard]] tl::expected<attachment, std::string> attach(unsigned ifindex, std::string_view name, int program);

// Detaches our program if it is still there (after the ports were closed).
void detach(unsigned ifindex) noexcept;
// Likewise where it is this very program; needs CAP_NET_ADMIN alone.
void detach(unsigned ifindex, int program, attach_mode mode) noexcept;

class edge {
public:
    static constexpr std::size_t verdict_count = 256;
    using address = std::array<std::uint8_t, 16>; // IPv4 as ::ffff:a.b.c.d

    // Opens the maps of our program on the interface.
    [[nodiscard]] static tl::expected<edge, std::string> open(unsigned ifindex, std::string_view name);
    // Opens the maps of a loaded program by its id, or by its descriptor.
    [[nodiscard]] static tl::expected<edge, std::string> open_program(std::uint32_t program_id);
    [[nodiscard]] static tl::expected<edge, std::string> open_loaded(int program);

    edge(edge&& other) noexcept;
    edge& operator=(edge&& other) noexcept;
    ~edge();

    [[nodiscard]] attach_mode mode() const noexcept;

    // What is on the interface now; `ours` is this very program, not a later one of the same name. None where the
    // interface is gone.
    [[nodiscard]] attached_program on(unsigned ifindex) const noexcept;
    // Whether frames of the queue reach an AF_XDP socket: its entry in xsks_map goes with the socket.
    [[nodiscard]] bool has_socket(std::uint16_t queue) const noexcept;

    result add_media_address(const address& ip, std::uint32_t index);
    result remove_media_address(const address& ip);
    // A store into shared memory, no system call. Out of range: ignored.
    void open_port(std::uint32_t address_index, std::uint16_t port) noexcept;
    void close_port(std::uint32_t address_index, std::uint16_t port) noexcept;
    [[nodiscard]] bool is_open(std::uint32_t address_index, std::uint16_t port) const noexcept;

    result add_tunnel_port(std::uint16_t port, std::uint8_t protocol, bool limited = true);
    result remove_tunnel_port(std::uint16_t port, std::uint8_t protocol);
    // Of each source prefix, and of all of them that are not proven together; 0 a second = no limit.
    result set_handshake_limit(std::uint32_t per_second, std::uint32_t burst, std::uint32_t total_per_second = 0,
                               std::uint32_t total_burst = 0);
    // A unit has authenticated from there: its prefix is not of the crowd any more.
    result prove(const address& ip);

    // Frames to or from these are dropped here. All of them at once, in the place of those before.
    struct network {
        address ip;
        std::uint8_t prefix_length; // 0 to 128; IPv4: its own and 96
    };
    result set_inner(std::span<const network> networks);

    // Packets by verdict (drops.def, then enum tandem_edge_verdict), summed over CPUs.
    [[nodiscard]] tl::expected<std::array<std::uint64_t, verdict_count>, std::string> verdicts() const;

private:
    struct maps;
    explicit edge(std::unique_ptr<maps> m) noexcept;
    std::unique_ptr<maps> maps_;
};

} // namespace tandem::bpf
