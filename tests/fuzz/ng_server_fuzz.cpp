// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_callcontrol
// The whole ng server, stateful: sequences of offers, answers, deletes, queries with equal and different cookies,
// Call-IDs, tags and branches, mutated, while the relay's answers come late, in any order, or refuse. At the end every
// call is deleted: nothing may be left of it.
#include <asio/redirect_error.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fuzzer/FuzzedDataProvider.h>
#include <list>
#include <string>

#include <spdlog/spdlog.h>

#include "controlplane/callcontrol/bencode.hpp"
#include "controlplane/callcontrol/fakes.hpp"

namespace {

using namespace tandem;
using namespace tandem::callcontrol;

// Every answer of the relay waits until it is let through.
class gated_relay final : public media::relay {
public:
    fake_relay inner;

    std::optional<media::error> denies(const media::media_request& asked) override { return inner.denies(asked); }
    asio::awaitable<media::result<media::media_locals>> open(const media::media_request& asked) override {
        const auto kept = asked;
        co_await pass();
        co_return co_await inner.open(kept);
    }
    void withdraw(media::media_id id) override { inner.withdraw(id); }
    asio::awaitable<media::result<std::vector<media::media_locals>>>
    update(std::vector<media::media_change> changes) override {
        co_await pass();
        co_return co_await inner.update(std::move(changes));
    }
    asio::awaitable<void> learn_anew(std::vector<media::media_id> ids) override {
        co_await pass();
        co_await inner.learn_anew(std::move(ids));
    }
    asio::awaitable<void> close(media::media_id id, const std::string& cause) override {
        const auto kept = cause;
        co_await pass();
        co_await inner.close(id, kept);
    }
    [[nodiscard]] std::optional<asio::ip::address> address_named(const std::string& name, bool ipv6) const override {
        return inner.address_named(name, ipv6);
    }
    [[nodiscard]] std::optional<media::media_info> info(media::media_id id) const override { return inner.info(id); }
    [[nodiscard]] std::vector<media::media_info> all() const override { return inner.all(); }

    [[nodiscard]] std::size_t waiting() const noexcept { return gates_.size(); }
    void let_through(std::size_t which) { std::next(gates_.begin(), static_cast<std::ptrdiff_t>(which))->cancel(); }
    void open_gates() {
        open_ = true;
        for (auto& gate : gates_)
            gate.cancel();
    }

private:
    asio::awaitable<void> pass() {
        if (open_)
            co_return;
        const auto gate =
            gates_.emplace(gates_.end(), co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
        asio::error_code woken;
        co_await gate->async_wait(asio::redirect_error(asio::use_awaitable, woken));
        gates_.erase(gate);
    }
    std::list<asio::steady_timer> gates_;
    bool open_ = false;
};

std::string sdp(FuzzedDataProvider& from) {
    static const char* const addresses[] = {"10.64.0.2",   "10.64.0.3", "198.51.100.7",
                                            "203.0.113.9", "0.0.0.0",   "10.64.0.9"};
    static const char* const profiles[] = {"RTP/AVP", "RTP/SAVP", "RTP/AVPF", "UDP/TLS/RTP/SAVPF", "udptl"};
    std::string out = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nt=0 0\r\nc=IN IP4 ";
    out += from.PickValueInArray(addresses);
    out += "\r\n";
    for (auto lines = from.ConsumeIntegralInRange(0, 3); lines > 0; --lines) {
        out += from.ConsumeBool() ? "m=audio " : "m=video ";
        out += std::to_string(from.ConsumeIntegralInRange(0, 3) * 2000);
        out += std::string(" ") + from.PickValueInArray(profiles) + " 8 0\r\n";
        if (from.ConsumeBool())
            out += "a=rtcp-mux\r\n";
        for (auto keys = from.ConsumeIntegralInRange(0, 2); keys > 0; --keys)
            out +=
                "a=crypto:" + std::to_string(keys) +
                (from.ConsumeBool() ? " AEAD_AES_128_GCM inline:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYg==\r\n"
                                    : " AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n");
        if (from.ConsumeBool())
            out += from.ConsumeBool() ? "a=sendonly\r\n" : "a=inactive\r\n";
    }
    return out;
}

std::string request(FuzzedDataProvider& from) {
    static const char* const commands[] = {"offer",  "offer", "answer", "answer", "delete",
                                           "delete", "query", "list",   "ping"};
    static const char* const names[] = {"", "a", "b", "c"};
    static const char* const metadata[] = {"caller=alice;callee=bob", "caller=bob;callee=carol", "offerer=callee", "x"};
    static const char* const transports[] = {"RTP/AVP", "RTP/SAVP", "UDP/TLS/RTP/SAVP"};
    bencode::dict all{{"command", from.PickValueInArray(commands)},
                      {"call-id", from.PickValueInArray(names)},
                      {"from-tag", from.PickValueInArray(names)},
                      {"sdp", sdp(from)}};
    if (from.ConsumeBool())
        all.emplace_back("to-tag", from.PickValueInArray(names));
    if (from.ConsumeBool())
        all.emplace_back("via-branch", from.PickValueInArray(names));
    if (from.ConsumeBool())
        all.emplace_back("metadata", from.PickValueInArray(metadata));
    if (from.ConsumeBool())
        all.emplace_back("transport-protocol", from.PickValueInArray(transports));
    if (from.ConsumeBool())
        all.emplace_back("received-from", bencode::list{"IP4", "10.64.0.2"});
    std::string out = "k" + std::to_string(from.ConsumeIntegralInRange(0, 9)) + " " + bencode::print(all);
    for (auto wrong = from.ConsumeIntegralInRange(0, 9); wrong > 7; --wrong)
        out[from.ConsumeIntegralInRange<std::size_t>(0, out.size() - 1)] =
            static_cast<char>(from.ConsumeIntegral<std::uint8_t>());
    return out;
}

class game {
public:
    game() {
        config settings;
        settings.received_from_optional = true;
        settings.listen.emplace_back(asio::ip::make_address("127.0.0.1"), std::uint16_t{0});
        server_.emplace(io_, settings, relay_, units_, store_);
        if (!server_->start())
            std::abort();
        client_.connect(server_->endpoints().front());
        client_.non_blocking(true);
    }

    void step(FuzzedDataProvider& from) {
        switch (from.ConsumeIntegralInRange(0, 9)) {
        case 0:
            settle();
            break;
        case 1:
            if (relay_.waiting() != 0)
                relay_.let_through(from.ConsumeIntegralInRange<std::size_t>(0, relay_.waiting() - 1));
            break;
        case 2:
            relay_.inner.refuse_update = from.ConsumeBool() ? "no" : "";
            relay_.inner.refuse_open = from.ConsumeBool() ? "no" : "";
            break;
        case 3:
            if (const auto& open = relay_.inner.open_media; !open.empty() && relay_.on_ended) {
                const auto id = open.begin()->first;
                const auto call = open.begin()->second.asked.call_id;
                relay_.inner.open_media.erase(id);
                relay_.on_ended(id, call, "timeout");
            }
            break;
        case 4:
            server_->end_call("a", "operator");
            break;
        default:
            client_.send(asio::buffer(request(from)));
        }
    }

    // Whatever waits goes on; then every call is deleted, and nothing is left.
    void end() {
        relay_.inner.refuse_open.clear();
        relay_.open_gates();
        settle();
        std::vector<std::string> ids;
        for (const auto& call : server_->calls())
            ids.push_back(call.call_id);
        for (const auto& id : ids)
            server_->end_call(id, "end");
        settle();
        if (!server_->calls().empty() || !relay_.inner.open_media.empty())
            std::abort();
    }

private:
    void settle() {
        do
            io_.restart();
        while (io_.poll() != 0);
        std::array<char, 65536> buffer;
        asio::error_code fault;
        while (!fault)
            client_.receive(asio::buffer(buffer), 0, fault);
    }

    asio::io_context io_;
    gated_relay relay_;
    fake_directory units_;
    no_call_store store_;
    std::optional<server> server_;
    asio::ip::udp::socket client_{io_, asio::ip::udp::endpoint(asio::ip::make_address("127.0.0.1"), 0)};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
    (void)quiet;
    FuzzedDataProvider from(data, size);
    game one;
    for (unsigned steps = 0; from.remaining_bytes() > 0 && steps < 64; ++steps)
        one.step(from);
    one.end();
    return 0;
}
