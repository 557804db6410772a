// SPDX-License-Identifier: Apache-2.0
// What call-ends.sock says of a call; who does not read it is let go of. tests/system/media_timeout.py has it in the
// program.
#include "controlplane/app/call_ends.hpp"

#include <asio/connect.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace tandem::control {
namespace {

using asio::local::stream_protocol;

callcontrol::ended_call ended(std::string call_id) {
    const auto now = protocol::moment::now();
    return {std::move(call_id), "alice", "bob", "timeout", now, now, "a", "b"};
}

TEST(CallEnds, ALineSaysWhichCallByteForByte) {
    EXPECT_EQ(call_end_line(ended("c@h")),
              "{\"event\":\"call ended\",\"call_id\":\"c@h\",\"from_tag\":\"a\",\"to_tag\":\"b\",\"caller\":\"alice\","
              "\"callee\":\"bob\",\"cause\":\"timeout\",\"seconds\":0.0}\n");
    EXPECT_EQ(nlohmann::json::parse(call_end_line(ended("\xff\n")))["call_id_hex"], "ff0a");
}

TEST(CallEnds, WhoDoesNotReadIsLetGoOf) {
    asio::io_context io;
    const auto path = "/tmp/tandem-call-ends-" + std::to_string(::getpid());
    call_ends ends(io, path, std::chrono::milliseconds(1));
    ASSERT_TRUE(ends.start());
    stream_protocol::socket deaf(io), reader(io);
    for (auto* one : {&deaf, &reader})
        one->connect(stream_protocol::endpoint(path));
    reader.non_blocking(true);
    std::string heard;
    std::array<char, 65536> part{};
    const auto turn = [&] {
        io.restart();
        io.poll();
        asio::error_code nothing_more;
        while (!nothing_more)
            heard.append(part.data(), reader.read_some(asio::buffer(part), nothing_more));
    };
    turn();
    constexpr unsigned many = 20'000;
    for (unsigned i = 0; i < many; ++i) {
        ends.tell(ended("c"));
        turn();
    }
    EXPECT_EQ(std::count(heard.begin(), heard.end(), '\n'), many);
    asio::error_code over;
    while (!over)
        deaf.read_some(asio::buffer(part), over);
    EXPECT_EQ(over, asio::error::eof) << "it had its part, and then was closed";
    ends.stop();
}

TEST(CallEnds, AllThatEndInOneTurnAreTold) {
    asio::io_context io;
    const auto path = "/tmp/tandem-call-ends-" + std::to_string(::getpid());
    call_ends ends(io, path);
    ASSERT_TRUE(ends.start());
    stream_protocol::socket reader(io);
    reader.connect(stream_protocol::endpoint(path));
    io.poll();
    constexpr long many = 5000;
    for (long i = 0; i < many; ++i)
        ends.tell(ended("c"));
    reader.non_blocking(true);
    std::array<char, 65536> part{};
    long heard = 0;
    for (int turns = 0; heard < many && turns < 100'000; ++turns) {
        io.restart();
        io.poll();
        asio::error_code nothing_more;
        while (!nothing_more) {
            const auto got = reader.read_some(asio::buffer(part), nothing_more);
            heard += std::count(part.begin(), part.begin() + static_cast<long>(got), '\n');
        }
    }
    EXPECT_EQ(heard, many);
    ends.stop();
}

} // namespace
} // namespace tandem::control
