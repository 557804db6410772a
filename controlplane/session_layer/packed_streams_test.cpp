// SPDX-License-Identifier: Apache-2.0
// COL-25, COL-26: connections whose streams are compressed, their moves, and an end that sends what no zstd made.
#include <random>

#include <zstd.h>

#include "controlplane/session_layer/tcp_streams_fixture.hpp"

namespace tandem::session_layer {
namespace {

using octets = std::vector<std::uint8_t>;

std::string text_of(std::size_t size, std::uint32_t seed = 1) {
    std::mt19937 random(seed);
    std::string text;
    while (text.size() < size)
        text += "line of " + std::to_string(random() % 10'000) + " words, more or less; ";
    text.resize(size);
    return text;
}

class PackedStreams : public TcpStreams {
protected:
    // One end that says what it likes on a compressed stream; the other end is a connection to the service.
    void say(const octets& what, bool close) {
        id = *ends[0].session->use([](session& s) { return s.open(stream_kind::packed, "there"); });
        for (std::size_t at = 0; at < what.size();) {
            at += ends[0].session->use([&](session& s) { return s.write(id, std::span(what).subspan(at)); });
            exchange();
        }
        if (close)
            ends[0].session->use([&](session& s) { s.close(id); });
    }
    // Writes all of it while frames pass.
    template <class Meanwhile>
    void send(tcp::socket& from, const std::string& text, Meanwhile meanwhile) {
        from.non_blocking(true);
        std::error_code error;
        std::size_t at = 0;
        run([&] {
            at += from.write_some(asio::buffer(text.data() + at, text.size() - at), error);
            meanwhile();
            return at == text.size();
        });
    }
    stream_id id = 0;
};

TEST_F(PackedStreams, EachDirectionIsAFrameAndBothHalvesPass) {
    auto program = forwarded(stream_kind::packed);
    auto served = accepted();
    EXPECT_EQ(streams[0]->contexts() + streams[1]->contexts(), 0U); // none before the first octet
    const auto question = text_of(200'000);
    send(program, question, [] {});
    run([&] { return streams[0]->contexts() == 1; });
    EXPECT_EQ(streams[0]->context_octets(), other->contexts);
    program.shutdown(tcp::socket::shutdown_send);
    std::error_code error;
    EXPECT_EQ(read_all(served, error), question);
    EXPECT_EQ(error, asio::error::eof);
    const auto& sent = streams[0]->count();
    EXPECT_EQ(sent.plain_octets, question.size());
    EXPECT_LT(sent.packed_octets * 10, sent.plain_octets * 4);
    EXPECT_EQ(streams[0]->contexts() + streams[1]->contexts(), 0U); // gone with the frame
    asio::write(served, asio::buffer("answer", 6));
    served.shutdown(tcp::socket::shutdown_send);
    EXPECT_EQ(read_all(program, error), "answer");
    EXPECT_EQ(error, asio::error::eof);
    run([&] { return streams[0]->size() + streams[1]->size() == 0; });
    EXPECT_EQ(streams[1]->count().ended, 1U);
    EXPECT_EQ(shared->connections + shared->octets + shared->contexts + other->contexts, 0U);
    EXPECT_EQ(streams[1]->count().packed_octets, sent.packed_octets);
}

TEST_F(PackedStreams, NothingAtAllIsAnEndInOrder) {
    auto program = forwarded(stream_kind::packed);
    auto served = accepted();
    program.shutdown(tcp::socket::shutdown_send);
    served.shutdown(tcp::socket::shutdown_send);
    run([&] { return streams[0]->size() + streams[1]->size() == 0; });
    EXPECT_EQ(streams[0]->count().ended + streams[1]->count().ended, 2U);
}

TEST_F(PackedStreams, ALineGoesOutAtOnce) {
    auto program = forwarded(stream_kind::packed);
    auto served = accepted();
    served.non_blocking(true);
    for (int i = 0; i < 50; ++i) {
        const auto line = "line " + std::to_string(i) + "\n";
        asio::write(program, asio::buffer(line));
        std::string came;
        std::error_code error;
        run([&] {
            char part[64];
            came.append(part, served.read_some(asio::buffer(part), error));
            return came.size() >= line.size();
        });
        EXPECT_EQ(came, line);
    }
    // As many octets as a reader takes at once: what is in the packer then does not wait for more.
    const auto whole = text_of(16384);
    asio::write(program, asio::buffer(whole));
    std::string came;
    std::error_code error;
    run([&] {
        char part[4096];
        came.append(part, served.read_some(asio::buffer(part), error));
        return came.size() >= whole.size();
    });
    EXPECT_EQ(came, whole);
}

// COL-26: one context each; the reset of one leaves the other as it is.
TEST_F(PackedStreams, TwoInterleavedAreIndependent) {
    auto one = forwarded(stream_kind::packed);
    auto one_served = accepted();
    auto two = forwarded(stream_kind::packed);
    auto two_served = accepted();
    const auto text = text_of(300'000, 1), half = text.substr(0, 150'000);
    std::string came;
    std::vector<char> part(65536);
    two_served.non_blocking(true);
    std::error_code error;
    send(one, text_of(20'000, 2), [] {});
    send(two, half, [&] { came.append(part.data(), two_served.read_some(asio::buffer(part), error)); });
    run([&] { return streams[0]->contexts() == 2 && streams[1]->contexts() == 2; });
    one.set_option(tcp::socket::linger(true, 0));
    one.close();
    run([&] { return streams[1]->size() == 1; });
    EXPECT_EQ(streams[0]->contexts() + streams[1]->contexts(), 2U);
    send(two, text.substr(half.size()),
         [&] { came.append(part.data(), two_served.read_some(asio::buffer(part), error)); });
    two.shutdown(tcp::socket::shutdown_send);
    came += read_all(two_served, error);
    EXPECT_EQ(error, asio::error::eof);
    EXPECT_TRUE(came == text);
}

// COL-16: links are lost with what was on them; what goes out again is what was compressed once.
TEST_F(PackedStreams, AHardMoveIsExactToTheOctet) {
    auto program = forwarded(stream_kind::packed);
    auto served = accepted();
    const auto text = text_of(3'000'000);
    std::string came;
    std::vector<char> part(65536);
    served.non_blocking(true);
    std::error_code error;
    int moves = 0, turn = 0;
    send(program, text, [] {});
    program.shutdown(tcp::socket::shutdown_send);
    run([&] {
        came.append(part.data(), served.read_some(asio::buffer(part), error));
        if (++turn % 4 == 0) {
            io.restart();
            io.poll();
            octets lost;
            while (ends[0].session->pull(ends[0].link, lost)) // it goes nowhere
                lost.clear();
            relink();
            ++moves;
        }
        return error == asio::error::eof;
    });
    EXPECT_TRUE(came == text);
    EXPECT_GT(moves, 3);
    std::uint64_t again = 0;
    for (const auto& e : seen[0])
        if (const auto* h = std::get_if<handover>(&e))
            again += h->sent_again;
    EXPECT_GT(again, 0U);
    EXPECT_EQ(streams[0]->count().packed_octets, streams[1]->count().packed_octets);
}

TEST_F(PackedStreams, WhatIsNoFrameIsANamedReset) {
    const auto good = frame_of(octets(1000, 7));
    auto flipped = good, longer = good;
    flipped.back() ^= 1; // of the checksum
    longer.push_back(0);
    struct {
        octets what;
        bool close;
    } const cases[] = {
        {octets(100, 'x'), false}, {flipped, false}, {longer, false}, {{good.begin(), good.end() - 1}, true}};
    std::size_t bad = 0;
    for (const auto& c : cases) {
        seen[0].clear();
        say(c.what, c.close);
        auto served = accepted();
        run([&] { return was_reset_with(reset_not_zstd); });
        EXPECT_EQ(streams[1]->count().not_zstd, ++bad);
    }
    EXPECT_EQ(shared->contexts + shared->octets + shared->connections, 0U);
}

TEST_F(PackedStreams, AWindowThatIsTooLargeIsANamedReset) {
    ZSTD_CCtx* const c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, most_packed_window + 1);
    octets frame(1000);
    ZSTD_inBuffer in{"octets", 6, 0};
    ZSTD_outBuffer out{frame.data(), frame.size(), 0};
    ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush);
    ZSTD_freeCCtx(c);
    frame.resize(out.pos);
    say(frame, false);
    auto served = accepted();
    run([&] { return was_reset_with(reset_zstd_window); });
    EXPECT_EQ(streams[1]->count().zstd_window, 1U);
}

// 256 MiB of zeros to a service that reads them when it likes: what is held for it does not grow, and others go on.
TEST_F(PackedStreams, ABombIsHeldCompressed) {
    const auto bomb = frame_of(octets(256 << 20));
    say(bomb, false);
    auto slow = accepted();
    auto program = forwarded();
    auto served = accepted();
    for (int i = 0; i < 20; ++i) {
        asio::write(program, asio::buffer("still here", 10));
        served.non_blocking(true);
        std::string came;
        std::error_code error;
        run([&] {
            char part[16];
            came.append(part, served.read_some(asio::buffer(part), error));
            return came == "still here";
        });
    }
    EXPECT_LE(shared->octets, bomb.size());
    EXPECT_LT(streams[1]->context_octets(), 640U * 1024);
    EXPECT_LT(streams[1]->count().plain_octets, 64U << 20); // the socket's buffers, no more
}

TEST_F(PackedStreams, ContextsOfAllTogetherAreBounded) {
    shared->most_contexts = 1;
    say(frame_of(octets(100, 1)), false); // a frame that ends gives its context back
    auto first = accepted();
    run([&] { return streams[1]->count().plain_octets == 100; });
    packer p;
    octets begun;
    ASSERT_TRUE(p.pack(octets(100, 1), packer::flush::now, begun));
    say(begun, false);
    auto second = accepted();
    run([&] { return streams[1]->count().plain_octets == 200; });
    say(begun, false);
    auto third = accepted();
    run([&] { return was_reset_with(static_cast<std::uint16_t>(reset_code::refused)); });
    EXPECT_EQ(streams[1]->count().no_context, 1U);
    EXPECT_EQ(streams[1]->contexts(), 1U);
}

} // namespace
} // namespace tandem::session_layer
