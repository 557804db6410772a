// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_protocol
// Control protocol from the wire: stream framing, message codec, inner IP headers (ORA-10 to ORA-14).
// The first byte cuts the stream into reads; the rest is what a peer sends. What is decoded must encode to a message
// that decodes to the same again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "controlplane/protocol/framing.hpp"
#include "controlplane/protocol/inner_packet.hpp"
#include "controlplane/protocol/message.hpp"

namespace {

using namespace tandem::protocol;

void require(bool condition) {
    if (!condition)
        std::abort();
}

void check_message(std::span<const std::uint8_t> bytes) {
    const auto head = peek(bytes);
    const auto got = decode(bytes);
    if (!got) {
        if (head)
            require(peek(message::refusal(*head, got.error()).encode())->sequence == head->sequence);
        return;
    }
    require(head.has_value() && head->sequence == got->sequence() && head->tsid == got->tsid());
    const auto again = decode(got->encode());
    require(again.has_value() && again->tlv_count() == got->tlv_count());
    require(again->code() == got->code());
    const auto one = again->get<tlv::seed>(), other = got->get<tlv::seed>();
    require(one.has_value() == other.has_value() && (!one || std::ranges::equal(*one, *other)));
    require(again->get<tlv::gateway_media>() == got->get<tlv::gateway_media>());
    require(again->get<tlv::reason>() == got->get<tlv::reason>());
    require(again->get<tlv::resume_tsid>() == got->get<tlv::resume_tsid>());
    require(decode(got->response(status::internal).encode()).has_value());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::size_t step = data[0] + std::size_t{1};
    std::span<const std::uint8_t> rest(data + 1, size - 1);
    check_message(rest);
    (void)parse_inner(rest);
    framer reader(16);
    while (!rest.empty()) {
        const auto room = reader.prepare();
        require(!room.empty());
        const auto n = std::min({room.size(), rest.size(), step});
        std::copy_n(rest.begin(), n, room.begin());
        reader.commit(n);
        rest = rest.subspan(n);
        while (const auto frame = reader.next()) {
            if (frame->kind == frame_kind::control)
                check_message(frame->bytes);
            else
                (void)parse_inner(frame->bytes);
        }
    }
    return 0;
}
