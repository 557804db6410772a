// SPDX-License-Identifier: Apache-2.0
// The burst engines' interface: one object per thread that uses it (a worker, and the control thread for build()).
//
// protect() and unprotect() take a burst of ops of any suites and flows mixed, and change packets in place. An op whose
// `key` is null (clear) or whose `result` is not drop::none on entry is skipped, so that a burst's ops may stay beside
// its packets. Neither locks, logs nor makes a system call; `ipsecmb` does not allocate (`openssl`, the reference, lets
// the library do so). A packet is at most 64 KiB - 1.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "dataplane/api/drops.hpp"
#include "dataplane/crypto/keys.hpp"

namespace tandem::crypto {

// What a packet's sequence number means for its stream (RFC 3550 A.1).
enum class sequence_is : std::uint8_t {
    going_on,
    stray, // a jump that no second packet in sequence confirmed yet
    anew,  // the source has restarted, or jumped, for certain
};

// One packet's crypto. flow/side.hpp fills it; `slot`, `epoch`, `sequence` and the flags are its own.
struct op {
    std::uint8_t* packet = nullptr;  // RTP or RTCP header
    const key_object* key = nullptr; // null = clear: nothing to do
    std::uint64_t index = 0;         // SRTP 48 bits, SRTCP 31 bits (without the E flag)
    std::uint32_t length = 0;        // in and out: bytes of the packet, trailer included where it is protected
    std::uint32_t ssrc = 0;
    std::uint32_t mki = 0;      // value written by protect()
    std::uint32_t epoch = 0;    // set with first_use and key_limit (flow::epoch_of for others)
    std::uint32_t expected = 0; // set by commit: packets that the sender's sequence numbers tell of since the last one
    std::uint16_t header = 0;   // bytes in clear
    std::uint16_t sequence = 0;
    std::uint8_t mki_length = 0; // 0..4
    bool rtcp = false;
    api::drop result =
        api::drop::none; // out: none, or srtp_auth (the packet's bytes are then undefined until restore())
    std::uint8_t slot = 0;
    bool first_use = false;                     // set by commit: first packet that authenticated under this epoch
    bool key_limit = false;                     // set by commit/prepare: 7/8 of the key's packets are used (once)
    sequence_is course = sequence_is::going_on; // set by commit
};

class engine {
public:
    engine() = default;
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;
    virtual ~engine() = default;

    [[nodiscard]] virtual std::string_view name() const noexcept = 0;
    // Names the layout of key_object::expanded; differs where a key must be built again.
    [[nodiscard]] virtual std::uint32_t fingerprint() const noexcept = 0;
    // Expands session keys; `out` is overwritten as a whole. Control thread (not per packet).
    [[nodiscard]] virtual bool build(api::suite suite, const session_keys& keys, key_object& out) noexcept = 0;
    // Encrypts and authenticates; the caller made sure of trailer_length() bytes behind each packet. Never fails.
    virtual void protect(std::span<op> ops) noexcept = 0;
    // Verifies and decrypts; strips the trailer. result = srtp_auth where the tag is wrong.
    virtual void unprotect(std::span<op> ops) noexcept = 0;
    // After a srtp_auth: gives the packet back its bytes as they came (for a second try with another index).
    virtual void restore(op& failed) noexcept = 0;
};

struct engine_info {
    std::string_view name;
    int priority;             // the highest whose probe and self-test pass wins
    bool (*probe)() noexcept; // does this CPU run it?
    std::unique_ptr<engine> (*make)();
};

[[nodiscard]] std::span<const engine_info> engines() noexcept;

// Published vectors (RFC 3711, RFC 7714) both ways, a flipped bit refused; empty = passed, else the vector's name.
[[nodiscard]] std::string self_test(engine& subject);

// "auto", "ipsecmb" or "openssl": a fresh engine that passed its self-test, or a sentence that says what to do.
[[nodiscard]] tl::expected<std::unique_ptr<engine>, std::string> make_engine(std::string_view name);

} // namespace tandem::crypto
