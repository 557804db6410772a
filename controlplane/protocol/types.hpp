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

// Values of u8 TLVs that name one of a few things; a TLV that is absent means the first. Append only: numbers are wire.
// Who makes a call's seeds (RIM-28, RIM-29); both: the XOR of two halves.
enum class key_source : std::uint8_t { gateway = 0, unit = 1, both = 2 };
// The seed gives the keys by HKDF, or is key and salt itself (a seed per direction, unit -> gateway first).
enum class key_use : std::uint8_t { derive = 0, seed_is_key = 1 };
// The radio that a unit binds its secondary to when several are up (RIM-33).
enum class path_choice : std::uint8_t { either = 0, wlan = 1, wwan = 2 };

// As they are in files, verbs, CSV and databases.
[[nodiscard]] constexpr std::string_view name_of(key_source keys) noexcept {
    return keys == key_source::both ? "both" : keys == key_source::unit ? "device" : "gateway";
}
[[nodiscard]] constexpr std::string_view name_of(path_choice path) noexcept {
    return path == path_choice::wwan ? "wwan" : path == path_choice::wlan ? "wlan" : "either";
}
[[nodiscard]] constexpr key_source last_of(key_source) noexcept {
    return key_source::both;
}
[[nodiscard]] constexpr key_use last_of(key_use) noexcept {
    return key_use::seed_is_key;
}
[[nodiscard]] constexpr path_choice last_of(path_choice) noexcept {
    return path_choice::wwan;
}
// Nothing for a number that names none: a peer may be newer.
template <class E>
[[nodiscard]] constexpr std::optional<E> named(std::uint8_t number) noexcept {
    return number <= static_cast<std::uint8_t>(last_of(E{})) ? std::optional(static_cast<E>(number)) : std::nullopt;
}
template <class E>
[[nodiscard]] constexpr std::uint8_t wire(E value) noexcept {
    static_assert(sizeof(last_of(value)) == 1);
    return static_cast<std::uint8_t>(value);
}

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
