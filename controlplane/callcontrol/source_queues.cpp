// SPDX-License-Identifier: Apache-2.0
// Classic BPF (Documentation/networking/filter.rst) and SO_REUSEPORT. See source_queues.hpp.
#include "controlplane/callcontrol/source_queues.hpp"

#include <algorithm>
#include <array>
#include <asio/ip/v6_only.hpp>
#include <bit>
#include <utility>

#include <linux/sock_diag.h>
#include <sys/socket.h>

namespace tandem::callcontrol {

namespace {

using asio::ip::udp;
using reuse_port = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

constexpr std::uint32_t at_network = static_cast<std::uint32_t>(SKF_NET_OFF); // where the IP header begins
constexpr std::uint32_t spread = 0x9e3779b1; // a multiplier whose upper bits depend on all of the word's
constexpr int queue_bytes = 1 << 20;
constexpr std::uint16_t load_word = BPF_LD | BPF_W | BPF_ABS;

std::uint32_t source_at(bool ipv4) {
    return at_network + (ipv4 ? 12 : 8);
}

// The words of an address of either family, most significant first.
std::vector<std::uint32_t> words_of(const asio::ip::address& a) {
    if (a.is_v4())
        return {a.to_v4().to_uint()};
    std::vector<std::uint32_t> all(4);
    const auto bytes = a.to_v6().to_bytes();
    for (unsigned i = 0; i < 16; ++i)
        all[i / 4] = all[i / 4] << 8 | bytes[i];
    return all;
}

bool is_exact(const network& n) {
    return n.bits == (n.base.is_v4() ? 32U : 128U);
}

bool attach(udp::socket& socket, int option, std::vector<sock_filter> program) {
    const sock_fprog it{static_cast<unsigned short>(program.size()), program.data()};
    return ::setsockopt(socket.native_handle(), SOL_SOCKET, option, &it, sizeof it) == 0;
}

// As large as this program may have it.
void widen(udp::socket& socket) {
    if (::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVBUFFORCE, &queue_bytes, sizeof queue_bytes) == 0)
        return;
    asio::error_code ignored;
    socket.set_option(asio::socket_base::receive_buffer_size(queue_bytes), ignored);
}

asio::error_code open(udp::socket& socket, const udp::endpoint& where, bool joins) {
    asio::error_code fault;
    socket.open(where.protocol(), fault);
    if (!fault && where.address().is_v6())
        socket.set_option(asio::ip::v6_only(true), fault);
    if (!fault && joins)
        socket.set_option(reuse_port(true), fault);
    if (!fault)
        socket.bind(where, fault);
    if (!fault)
        socket.non_blocking(true, fault);
    return fault;
}

} // namespace

// A source in `one` goes on with `then`, others with what follows.
void source_queues::match(const network& one, const std::vector<sock_filter>& then) {
    if (one.base.is_v4() != ipv4_)
        return;
    std::vector<sock_filter> test;
    const auto words = words_of(one.base);
    for (unsigned i = 0; i < words.size() && i * 32 < one.bits; ++i) {
        const unsigned left = std::min(32U, one.bits - i * 32);
        const std::uint32_t mask = ~std::uint32_t{0} << (32 - left);
        test.push_back({load_word, 0, 0, source_at(ipv4_) + 4 * i});
        test.push_back({BPF_ALU | BPF_AND | BPF_K, 0, 0, mask});
        test.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 0, words[i] & mask});
    }
    for (std::size_t i = 2; i < test.size(); i += 3)
        test[i].jf = static_cast<std::uint8_t>(test.size() - i - 1 + then.size());
    program_.insert(program_.end(), test.begin(), test.end());
    program_.insert(program_.end(), then.begin(), then.end());
}

// Returns the socket: `first` (of a source, or in the scratch word 0 where it is 0) and the lane, by the sender's port.
// An IP header with options has something else there, which will do.
void source_queues::to_lane(std::vector<sock_filter>& out, unsigned first) const {
    if (first != 0) {
        out.push_back({BPF_LD | BPF_IMM, 0, 0, first});
        out.push_back({BPF_ST, 0, 0, 0});
    }
    out.push_back({BPF_LD | BPF_H | BPF_ABS, 0, 0, at_network + (ipv4_ ? 20 : 40)});
    out.push_back({BPF_ALU | BPF_MUL | BPF_K, 0, 0, spread});
    out.push_back({BPF_ALU | BPF_RSH | BPF_K, 0, 0, 32 - std::countr_zero(lanes)});
    out.push_back({BPF_LDX | BPF_MEM, 0, 0, 0});
    out.push_back({BPF_ALU | BPF_ADD | BPF_X, 0, 0, 0});
    out.push_back({BPF_RET | BPF_A, 0, 0, 0});
}

// By the address, or an IPv6 network (/64).
void source_queues::to_group() {
    if (alone_)
        return to_lane(program_, own_host);
    add(load_word, source_at(ipv4_));
    add(BPF_ALU | BPF_MUL | BPF_K, spread);
    if (!ipv4_) {
        add(BPF_MISC | BPF_TAX, 0);
        add(load_word, source_at(ipv4_) + 4);
        add(BPF_ALU | BPF_XOR | BPF_X, 0);
        add(BPF_ALU | BPF_MUL | BPF_K, spread);
    }
    add(BPF_ALU | BPF_RSH | BPF_K, 32 - std::countr_zero(groups));
    add(BPF_ALU | BPF_MUL | BPF_K, lanes);
    add(BPF_ALU | BPF_ADD | BPF_K, first_group_);
    add(BPF_ST, 0);
    to_lane(program_, 0);
}

source_queues::source_queues(const asio::ip::address& where, who_asks who)
    : where_(where), ipv4_(where.is_v4()), alone_(where.is_loopback()) {
    // Longest prefix first: a proxy's own queue goes before that of its network.
    std::ranges::stable_sort(who.from, std::ranges::greater(), &network::bits);
    const bool few = who.from.size() + who.never.size() <= most_rules;
    const std::vector<sock_filter> away{{BPF_RET | BPF_K, 0, 0, 0}};
    unsigned next = own_host + lanes;
    std::vector<std::pair<network, unsigned>> own;
    for (const auto& one : who.from)
        if (few && !alone_ && is_exact(one) && one.base.is_v4() == ipv4_ && own.size() < most_own) {
            own.emplace_back(one, next);
            next += lanes;
        }
    first_group_ = next;

    std::vector<sock_filter> lane;
    to_lane(lane, own_host);
    match(ipv4_ ? network{asio::ip::address_v4::loopback(), 8} : network{asio::ip::address_v6::loopback(), 128}, lane);
    if (few)
        for (const auto& one : who.never)
            match(one, away);
    for (const auto& [one, first] : own) {
        lane.clear();
        to_lane(lane, first);
        match(one, lane);
    }
    std::vector<std::size_t> jumps;
    if (few && !who.from.empty()) {
        for (const auto& one : who.from) {
            match(one, {{BPF_JMP | BPF_JA, 0, 0, 0}});
            if (one.base.is_v4() == ipv4_)
                jumps.push_back(program_.size() - 1);
        }
        add(BPF_RET | BPF_K, 0);
    }
    for (const auto at : jumps)
        program_[at].k = static_cast<std::uint32_t>(program_.size() - at - 1);
    to_group();
}

tl::expected<std::vector<udp::socket>, asio::error_code> source_queues::bind(asio::io_context& io,
                                                                             std::uint16_t port) const {
    std::vector<udp::socket> all;
    // The first one does not join: whoever has the port already is told, even if that is one of us.
    if (const auto fault = open(all.emplace_back(io), {where_, port}, false))
        return tl::unexpected(fault);
    asio::error_code fault;
    const auto at = all.front().local_endpoint(fault);
    if (!fault)
        all.front().set_option(reuse_port(true), fault);
    while (!fault && all.size() < sockets())
        fault = open(all.emplace_back(io), at, true);
    if (fault)
        return tl::unexpected(fault);
    for (auto& one : all)
        widen(one);
    // Without programs the kernel spreads datagrams over all of them by itself, strangers' too: they are read and told.
    if (attach(all.front(), SO_ATTACH_REUSEPORT_CBPF, program_))
        attach(all.front(), SO_ATTACH_FILTER, {{BPF_RET | BPF_K, 0, 0, 0}});
    return all;
}

std::uint32_t dropped_by(udp::socket& socket) {
    std::array<std::uint32_t, SK_MEMINFO_VARS> all{};
    socklen_t length = sizeof all;
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_MEMINFO, all.data(), &length) != 0)
        return 0;
    return all[SK_MEMINFO_DROPS];
}

} // namespace tandem::callcontrol
