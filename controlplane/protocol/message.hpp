// SPDX-License-Identifier: Apache-2.0
// One control message: header and TLVs (messages.def, ORA-04 to ORA-16).
//
//   auto m = message::request(exchange::seed).add<tlv::media_id>(7).add<tlv::epoch>(2).add<tlv::seed>(bytes);
//   auto wire = m.encode();                                   // wiped when it goes out of scope
//   auto got = decode(wire);                                  // tl::expected<message, status>
//   if (got && got->is(exchange::seed)) use(got->get<tlv::epoch>());
//   auto answer = got->response(status::ok).add<tlv::media_id>(7).add<tlv::epoch>(2);
//
// All TLV storage is wiped when it is freed, so a message that held a seed leaves none behind; messages are moved, not
// copied. Sequence numbers: each side's requests count up from any start on each connection; a response carries its
// request's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/secret.hpp"
#include "controlplane/protocol/types.hpp"

namespace tandem::protocol {

inline constexpr std::uint8_t protocol_version = 1;
inline constexpr std::size_t header_size = 16;
inline constexpr std::size_t max_message = 65535;           // the stream framing's length field
inline constexpr std::uint64_t no_tsid = ~std::uint64_t{0}; // "all ones": the first request's

// Wipes what it frees: growth, moves and destruction leave no copy behind.
template <class T>
struct wiping_allocator {
    using value_type = T;
    wiping_allocator() = default;
    template <class U>
    wiping_allocator(const wiping_allocator<U>&) noexcept {}
    [[nodiscard]] T* allocate(std::size_t n) { return std::allocator<T>().allocate(n); }
    void deallocate(T* p, std::size_t n) noexcept {
        wipe(p, n * sizeof(T));
        std::allocator<T>().deallocate(p, n);
    }
    template <class U>
    friend bool operator==(const wiping_allocator&, const wiping_allocator<U>&) noexcept {
        return true;
    }
};
using wiped_bytes = std::vector<std::uint8_t, wiping_allocator<std::uint8_t>>;

struct header {
    std::uint8_t version = protocol_version;
    std::uint8_t indication = 0;
    std::uint8_t reserved = 0;
    std::uint8_t type = 0; // wire number
    std::uint8_t tlv_count = 0;
    std::uint64_t tsid = no_tsid;
    std::uint32_t sequence = 0;
};

// The header alone, whatever its values: for the answer to a message that decode() refuses. Nothing below 16 bytes.
[[nodiscard]] std::optional<header> peek(std::span<const std::uint8_t> bytes) noexcept;

class message {
public:
    [[nodiscard]] static message request(exchange what) noexcept { return message(static_cast<std::uint8_t>(what)); }
    // The answer to this request: same TSID and sequence, with a status TLV and, where it helps, a reason for people.
    [[nodiscard]] message response(status code, std::string_view reason = {}) const;
    // The answer to a request that could not be decoded; its type is the request's number + 1 whether known or not.
    [[nodiscard]] static message refusal(const header& of, status code, std::string_view reason = {});

    message(message&&) noexcept = default;
    message& operator=(message&&) noexcept = default;
    message(const message&) = delete;
    message& operator=(const message&) = delete;
    ~message() = default;
    [[nodiscard]] message copy() const; // tests and rare needs

    [[nodiscard]] std::uint8_t wire_type() const noexcept { return type_; }
    [[nodiscard]] exchange what() const noexcept { return static_cast<exchange>(type_ & 0xFEU); }
    [[nodiscard]] bool is(exchange e) const noexcept { return what() == e; }
    [[nodiscard]] bool is_response() const noexcept { return (type_ & 1U) != 0; }
    [[nodiscard]] std::uint64_t tsid() const noexcept { return tsid_; }
    [[nodiscard]] std::uint32_t sequence() const noexcept { return sequence_; }
    [[nodiscard]] std::size_t tlv_count() const noexcept { return entries_.size(); }
    message& set_tsid(std::uint64_t value) & noexcept {
        tsid_ = value;
        return *this;
    }
    message& set_sequence(std::uint32_t value) & noexcept {
        sequence_ = value;
        return *this;
    }

    // The first (or index-th) TLV of this sort; nothing where absent. Views live as long as the message.
    template <tlv T>
    [[nodiscard]] std::optional<value_of<T>> get(std::size_t index = 0) const noexcept;
    template <tlv T>
    [[nodiscard]] bool has() const noexcept {
        return find(T, 0).data() != nullptr;
    }
    template <tlv T>
    [[nodiscard]] std::size_t count() const noexcept {
        return count(T);
    }
    // A seed as a secret of its own.
    template <tlv T>
    [[nodiscard]] std::optional<secret> get_secret(std::size_t index = 0) const;
    // A response's status; a response without one is ok.
    [[nodiscard]] status code() const noexcept;

    // Appends. A value outside the table's lengths (a programming error for numbers; long text is cut to fit) is left
    // out and encode() then gives a message that the peer refuses, never one that over-reads.
    template <tlv T>
    message& add(const value_of<T>& value) &;
    template <tlv T>
    message&& add(const value_of<T>& value) && {
        return std::move(this->template add<T>(value));
    }

    [[nodiscard]] wiped_bytes encode() const;

private:
    friend tl::expected<message, status> decode(std::span<const std::uint8_t>);
    struct entry {
        tlv id;
        std::uint16_t length;
        std::uint32_t offset;
    };
    explicit message(std::uint8_t wire_type) noexcept : type_(wire_type) {}
    [[nodiscard]] std::span<const std::uint8_t> find(tlv id, std::size_t index) const noexcept;
    [[nodiscard]] std::size_t count(tlv id) const noexcept;
    void append(tlv id, std::span<const std::uint8_t> value);
    void append_number(tlv id, std::uint64_t value, std::size_t width);
    void append_endpoint(tlv id, const endpoint& value);

    std::uint8_t type_;
    std::uint64_t tsid_ = no_tsid;
    std::uint32_t sequence_ = 0;
    std::vector<entry> entries_;
    wiped_bytes values_;
};

// Every check of ORA-05 to ORA-15 that needs no session: version, indication, reserved, type, TLV count, lengths,
// text's UTF-8, required TLVs. Unknown TLVs are skipped. Never reads beyond `bytes`.
[[nodiscard]] tl::expected<message, status> decode(std::span<const std::uint8_t> bytes);

[[nodiscard]] std::uint64_t load_be(std::span<const std::uint8_t> bytes) noexcept; // up to 8 bytes
void store_be(std::span<std::uint8_t> bytes, std::uint64_t value) noexcept;
[[nodiscard]] bool valid_text(std::span<const std::uint8_t> bytes) noexcept; // UTF-8 without control characters

// ---------------------------------------------------------------------------------------------------------------------

template <tlv T>
std::optional<value_of<T>> message::get(std::size_t index) const noexcept {
    const auto bytes = find(T, index);
    if (bytes.data() == nullptr)
        return std::nullopt;
    constexpr kind k = info(T).kind;
    if constexpr (k == kind::text) {
        return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    } else if constexpr (k == kind::bytes) {
        return bytes;
    } else if constexpr (k == kind::ip || k == kind::endpoint) {
        ip_address address;
        for (std::size_t i = 0; i < address.bytes.size(); ++i)
            address.bytes[i] = bytes[i];
        if constexpr (k == kind::ip)
            return address;
        else
            return endpoint{address, static_cast<std::uint16_t>(load_be(bytes.subspan(16, 2)))};
    } else {
        return static_cast<value_of<T>>(load_be(bytes));
    }
}

template <tlv T>
std::optional<secret> message::get_secret(std::size_t index) const {
    static_assert(info(T).kind == kind::bytes && info(T).max <= secret::capacity);
    const auto bytes = find(T, index);
    if (bytes.data() == nullptr)
        return std::nullopt;
    return secret(bytes);
}

template <tlv T>
message& message::add(const value_of<T>& value) & {
    constexpr kind k = info(T).kind;
    if constexpr (k == kind::text)
        append(T, {reinterpret_cast<const std::uint8_t*>(value.data()), value.size()});
    else if constexpr (k == kind::bytes)
        append(T, value);
    else if constexpr (k == kind::ip)
        append(T, value.bytes);
    else if constexpr (k == kind::endpoint)
        append_endpoint(T, value);
    else
        append_number(T, value, sizeof(value));
    return *this;
}

} // namespace tandem::protocol
