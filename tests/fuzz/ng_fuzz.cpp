// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_callcontrol_pure
// A whole ng datagram: cookie, dictionary, flags, SDP, offer and answer on a call; saved calls read back the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/callcontrol/call.hpp"

namespace {

using namespace tandem::callcontrol;

void play(const request& r) {
    const auto body = sdp::parse(r.sdp);
    if (!body)
        return;
    call c;
    c.call_id = r.call_id;
    c.learn_tag(0, r.from_tag);
    c.learn_tag(1, r.to_tag);
    for (const auto& media : body->m_lines) {
        auto& line = c.lines.emplace_back();
        line.index = static_cast<std::uint32_t>(c.lines.size() - 1);
        const auto plan = take_offer(c, line, media, 0, place{}, place{}, r);
        if (!plan || plan->reject)
            continue;
        line.id = 1;
        for (auto& local : line.local)
            local.rtp = local.rtcp = {asio::ip::make_address("192.0.2.1"), 20'000};
        (void)rewrite_for_offer(line, 1);
        (void)take_answer(c, line, media, 1, r); // an echo as the answer
        (void)rewrite_for_answer(line, 0);
        (void)relay_request(c, line, true);
    }
    const auto saved = save({c});
    const auto loaded = load(saved);
    if (!loaded || save(*loaded) != saved)
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto parts = split({reinterpret_cast<const char*>(data), size});
    if (!parts)
        return 0;
    const auto read = read_request(parts->payload);
    if (read && !read->sdp.empty())
        play(*read);
    (void)load(parts->payload);
    return 0;
}
