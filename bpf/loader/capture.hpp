// SPDX-License-Identifier: Apache-2.0
// Programs of a cgroup, captured: what they connect to, where a rule says so, goes to a proxy on this host. Attached by
// links, which end with this process however it ends. Loading needs CAP_BPF and CAP_NET_ADMIN (or root); what is asked
// later needs none (Linux 5.19). One thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "bpf/capture_layout.h"

namespace tandem::bpf {

using capture_place = tandem_capture_place;

struct capture_rule {
    enum class protocol : std::uint8_t { tcp = 6, udp = 17 };
    protocol kind = protocol::tcp;
    bool leave = false; // not captured, where a shorter prefix is
    bool ip6 = false;
    std::array<std::uint8_t, 16> ip{}; // IPv4: the first four
    std::uint8_t prefix_length = 0;    // 0 to 32, or to 128
    std::uint16_t port = 0;            // 0: any
};

struct capture_counters {
    std::uint64_t connections = 0, elsewhere = 0, unready = 0; // enum tandem_capture_counter
};

class capture {
public:
    static constexpr std::size_t most_rules = TANDEM_CAPTURE_MAX_RULES, most_doors = TANDEM_CAPTURE_MAX_DOORS;
    struct plan {
        std::string cgroup; // below where cgroup2 is mounted
        std::span<const capture_rule> rules;
        std::uint16_t proxy4 = 0, proxy6 = 0; // TCP ports of 127.0.0.1 and ::1; 0: no proxy of that family
        // UDP ports of 127.0.0.1 and ::1, each to stand for one destination; numbered on from the first of doors4.
        // Without any, nothing of UDP is touched.
        std::span<const std::uint16_t> doors4, doors6;
    };
    // All or nothing; the error is a sentence for the operator, with the remedy.
    [[nodiscard]] static tl::expected<capture, std::string> start(const plan& what);
    // What start would refuse of the cgroup; its path.
    [[nodiscard]] static tl::expected<std::string, std::string> find_cgroup(std::string_view name);

    capture(capture&& other) noexcept;
    capture& operator=(capture&& other) noexcept;
    ~capture();

    // Where the program meant to go whose end of the connection this is; told once.
    [[nodiscard]] std::optional<capture_place> take(const capture_place& from) noexcept;
    [[nodiscard]] capture_counters counters() const;

    // What a door stands for; none: it is free.
    [[nodiscard]] std::optional<capture_place> behind_door(std::uint32_t door) const noexcept;
    // Sockets that are connected to it.
    [[nodiscard]] std::uint32_t door_users(std::uint32_t door) const noexcept;
    // No datagram finds it any more; who just found it is through within a second.
    void close_door(std::uint32_t door) noexcept;
    // It may stand for another destination. To be closed, and without users.
    void free_door(std::uint32_t door) noexcept;

private:
    struct parts;
    explicit capture(std::unique_ptr<parts> p) noexcept;
    std::unique_ptr<parts> parts_;
};

// Inside of the loader, and for its tests.
// Mount point of cgroup2 in the text of /proc/mounts; empty: none.
[[nodiscard]] std::string cgroup2_mount(std::string_view mounts);
// Why the kernel did not take the program for `hook`, and what to do.
[[nodiscard]] std::string attach_refusal(std::string_view hook, std::string_view cgroup, int code);

} // namespace tandem::bpf
