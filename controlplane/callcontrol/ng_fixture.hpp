// SPDX-License-Identifier: Apache-2.0
// For tests: an ng server on a loopback port over fakes, and a client in the same thread.
#pragma once

#include <gtest/gtest.h>
#include <optional>
#include <string>

#include "controlplane/callcontrol/bencode.hpp"
#include "controlplane/callcontrol/fakes.hpp"

namespace tandem::callcontrol {

struct map_store final : call_store {
    std::map<std::string, std::string> calls;
    std::vector<ended_call> ended;
    void put(const std::string& id, const std::string& json) override { calls[id] = json; }
    void end(const ended_call& call) override {
        calls.erase(call.call_id);
        ended.push_back(call);
    }
    void erase(const std::string& id) override { calls.erase(id); }
    void flush() override {
        ++flushes;
        if (on_flush)
            on_flush();
    }
    unsigned flushes = 0;
    std::function<void()> on_flush;
    void each(const taker& give) override {
        for (const auto& [id, json] : calls)
            give(id, json);
    }
};

class ng_fixture : public testing::Test {
protected:
    using entries = bencode::dict;

    ng_fixture() { boot(); }

    void boot() {
        server.reset();
        config settings = more_settings;
        settings.received_from_optional = !received_from_required;
        settings.listen.clear();
        settings.listen.emplace_back(asio::ip::make_address("127.0.0.1"), std::uint16_t{0});
        server.emplace(io, settings, relay, units, store);
        const auto started = server->start();
        ASSERT_TRUE(started) << started.error();
        client.emplace(io, asio::ip::udp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
        client->connect(server->endpoints().front());
        client->non_blocking(true);
    }

    void send(const std::string& bytes) { client->send(asio::buffer(bytes)); }

    std::optional<std::string> receive(std::chrono::milliseconds patience = std::chrono::seconds(2)) {
        std::array<char, 65536> buffer{};
        const auto end = std::chrono::steady_clock::now() + patience;
        do {
            io.restart();
            io.run_for(std::chrono::milliseconds(2));
            asio::error_code fault;
            const auto length = client->receive(asio::buffer(buffer), 0, fault);
            if (!fault)
                return std::string(buffer.data(), length);
        } while (std::chrono::steady_clock::now() < end);
        return {};
    }

    std::string raw(const std::string& bytes) {
        send(bytes);
        return receive().value_or("(no reply)");
    }

    bencode::value ask(const bencode::value& request) {
        const auto cookie = "k" + std::to_string(++cookies) + " ";
        const auto reply = raw(cookie + bencode::print(request));
        EXPECT_TRUE(reply.starts_with(cookie)) << reply;
        const auto parsed = bencode::parse(std::string_view(reply).substr(std::min(cookie.size(), reply.size())));
        EXPECT_TRUE(parsed) << reply;
        return parsed ? parsed->what : bencode::value();
    }

    bencode::value command(const std::string& name, entries more = {}) {
        bencode::value request(entries{{"command", name}});
        for (auto& [key, item] : more)
            request.add(key, std::move(item));
        return ask(request);
    }

    std::string reason(const std::string& name, entries more = {}) {
        const auto reply = command(name, std::move(more));
        return reply.text_of("result") == "error" ? std::string(reply.text_of("error-reason")) : "(no error)";
    }

    static std::string sdp(const std::string& address, int port, const std::string& more = "",
                           const std::string& proto = "RTP/AVP") {
        const std::string family = address.find(':') == std::string::npos ? "IP4 " : "IP6 ";
        return "v=0\r\no=- 1 1 IN " + family + address + "\r\ns=-\r\nc=IN " + family + address +
               "\r\nt=0 0\r\nm=audio " + std::to_string(port) + " " + proto + " 8 0\r\na=rtpmap:8 PCMA/8000\r\n" +
               more + "a=sendrecv\r\n";
    }

    bencode::value offer(const std::string& id, const std::string& body, entries more = {}) {
        return signal("offer", id, body, std::move(more));
    }
    bencode::value answer(const std::string& id, const std::string& body, entries more = {}) {
        more.emplace_back("to-tag", "b");
        return signal("answer", id, body, std::move(more));
    }
    bencode::value signal(const std::string& name, const std::string& id, const std::string& body, entries more) {
        entries all{{"call-id", id}, {"from-tag", "a"}, {"sdp", body}};
        for (auto& one : more) {
            std::erase_if(all, [&](const auto& have) { return have.first == one.first; });
            all.push_back(std::move(one));
        }
        return command(name, std::move(all));
    }

    // A call from alice (unit) to bob (core), answered.
    void establish(const std::string& id) {
        ASSERT_EQ(offer(id, sdp("10.64.0.2", 4000), {{"metadata", "caller=alice;callee=bob"}}).text_of("result"), "ok");
        ASSERT_EQ(answer(id, sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    }

    const media::media_request& asked(media::media_id id) { return relay.open_media.at(id).asked; }

    asio::io_context io;
    fake_relay relay;
    fake_directory units;
    map_store store;
    config more_settings;
    bool received_from_required = false; // most tests are about what the SDP says
    std::optional<callcontrol::server> server;
    std::optional<asio::ip::udp::socket> client;
    unsigned cookies = 0;
};

} // namespace tandem::callcontrol
