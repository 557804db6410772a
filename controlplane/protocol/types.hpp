// SPDX-License-Identifier: Apache-2.0
// Types, TLVs and status codes of the control protocol, generated from messages.def.
// Pure: no socket, no asio, no allocation; shared by gateway and agent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tandem::protocol {

// What is asked and answered; the wire's type is this number (request) or this number + 1 (response).
enum class exchange : std::uint8_t {
#define MESSAGE(name, number) name = number,
#include "controlplane/protocol/messages.def"
};

enum class tlv : std::uint16_t {
#define TLV(name, number, kind, min, max) name = number,
#include "controlplane/protocol/messages.def"
};

enum class status : std::uint16_t {
#define STATUS(name, number, text) name = number,
#include "controlplane/protocol/messages.def"
};

enum class kind : std::uint8_t { u8, u16, u32, u64, ip, endpoint, text, bytes };

// 16 bytes, network order, IPv4 as ::ffff:a.b.c.d. address_asio.hpp converts from and to asio's.
struct ip_address {
    std::array<std::uint8_t, 16> bytes{};
    friend bool operator==(const ip_address&, const ip_address&) = default;
};

struct endpoint {
    ip_address address;
    std::uint16_t port = 0;
    friend bool operator==(const endpoint&, const endpoint&) = default;
};

struct tlv_info {
    tlv id;
    std::string_view name;
    protocol::kind kind;
    std::uint16_t min, max; // bytes
};

inline constexpr std::array tlv_table{
#define TLV(name, number, sort, min, max) tlv_info{tlv::name, #name, kind::sort, min, max},
#include "controlplane/protocol/messages.def"
};

struct exchange_info {
    exchange id;
    std::string_view name;
};

inline constexpr std::array exchange_table{
#define MESSAGE(name, number) exchange_info{exchange::name, #name},
#include "controlplane/protocol/messages.def"
};

struct status_info {
    status id;
    std::string_view name, text;
};

inline constexpr std::array status_table{
#define STATUS(name, number, text) status_info{status::name, #name, text},
#include "controlplane/protocol/messages.def"
};

struct need {
    exchange in;
    bool response;
    tlv what;
};

inline constexpr std::array need_table{
#define NEEDS(message, way, tlv_name) need{exchange::message, std::string_view(#way) == "response", tlv::tlv_name},
#include "controlplane/protocol/messages.def"
};

// The table's row; nothing for a number that names none.
[[nodiscard]] constexpr const tlv_info* find_tlv(std::uint16_t number) noexcept {
    for (const auto& row : tlv_table)
        if (static_cast<std::uint16_t>(row.id) == number)
            return &row;
    return nullptr;
}
[[nodiscard]] constexpr const exchange_info* find_exchange(std::uint8_t wire_type) noexcept {
    for (const auto& row : exchange_table)
        if (static_cast<std::uint8_t>(row.id) == (wire_type & 0xFEU))
            return &row;
    return nullptr;
}
[[nodiscard]] constexpr const status_info* find_status(std::uint16_t number) noexcept {
    for (const auto& row : status_table)
        if (static_cast<std::uint16_t>(row.id) == number)
            return &row;
    return nullptr;
}
[[nodiscard]] constexpr const tlv_info& info(tlv t) noexcept {
    return *find_tlv(static_cast<std::uint16_t>(t));
}
[[nodiscard]] constexpr std::string_view name_of(exchange e) noexcept {
    return find_exchange(static_cast<std::uint8_t>(e))->name;
}
// For people; a number that a newer peer may send has a name too.
[[nodiscard]] constexpr std::string_view text_of(status s) noexcept {
    const auto* row = find_status(static_cast<std::uint16_t>(s));
    return row != nullptr ? row->text : "status that this version does not know";
}

// The C++ type of a TLV's value, by its row's kind. text and bytes are views into the message that holds them.
template <kind K>
struct value_of_kind;
template <>
struct value_of_kind<kind::u8> {
    using type = std::uint8_t;
};
template <>
struct value_of_kind<kind::u16> {
    using type = std::uint16_t;
};
template <>
struct value_of_kind<kind::u32> {
    using type = std::uint32_t;
};
template <>
struct value_of_kind<kind::u64> {
    using type = std::uint64_t;
};
template <>
struct value_of_kind<kind::ip> {
    using type = ip_address;
};
template <>
struct value_of_kind<kind::endpoint> {
    using type = endpoint;
};
template <>
struct value_of_kind<kind::text> {
    using type = std::string_view;
};
template <>
struct value_of_kind<kind::bytes> {
    using type = std::span<const std::uint8_t>;
};
template <tlv T>
using value_of = typename value_of_kind<info(T).kind>::type;

} // namespace tandem::protocol
