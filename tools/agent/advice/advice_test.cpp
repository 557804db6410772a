// SPDX-License-Identifier: Apache-2.0
// CONTACT and SEED_MAKE against the fake gateway: what the unit says of a call, seeds that it makes, histories from the
// media's lengths, a media that changes its path. Rows RIM-23, RIM-24, RIM-27, RIM-28, RIM-29, RIM-33.
#include <gtest/gtest.h>

#include "tools/agent/advice/advisor.hpp"
#include "tools/agent/advice/temporary_directory.hpp"
#include "tools/agent/link/primary_fixture.hpp"

namespace {

class Advice : public Primary {
protected:
    temporary_directory dir;
    std::unique_ptr<advisor> advice;

    void begin() {
        config.id = "alice";
        config.state_dir = dir.path;
        advice = std::make_unique<advisor>(config);
        contact = [this](const message& request) { return advice->contact(request); };
        media.on_call_ended([this](const std::string& peer, std::chrono::milliseconds length, bool failed) {
            advice->call_ended(peer, length, failed);
        });
        start();
        ASSERT_TRUE(until([&] { return unit->up(); }));
    }
    const message& ask_contact(std::string_view peer) {
        EXPECT_EQ(ask(message::request(exchange::contact).add<tlv::peer>(peer).add<tlv::peer>("sip:x@ex.com")),
                  status::ok);
        return gateway.responses.back();
    }
    void set_level(std::string_view address, std::string level) {
        auto book = load_contacts(dir.path).value();
        ASSERT_TRUE(book.set(address, {.name = "Mum", .level = std::move(level)}));
        ASSERT_TRUE(save_contacts(dir.path, book));
    }
    message make_request(std::uint32_t epoch, std::uint16_t length = 16, std::uint8_t count = 1) {
        return message::request(exchange::seed_make)
            .add<tlv::media_id>(5)
            .add<tlv::epoch>(epoch)
            .add<tlv::seed_bytes>(length)
            .add<tlv::seed_count>(count);
    }
    bytes seed_made(std::uint32_t epoch) {
        EXPECT_EQ(ask(make_request(epoch)), status::ok);
        const auto seed = gateway.responses.back().get<tlv::seed>();
        return seed ? bytes(seed->begin(), seed->end()) : bytes{};
    }
    // A MEDIA_OPEN without its seed (or with another one than the fixture's).
    message open_without(std::uint8_t source, const bytes& half = {}, std::uint32_t id = 5, std::uint16_t port = 0) {
        auto request = message::request(exchange::media_open).add<tlv::media_id>(id).add<tlv::epoch>(0);
        request.add<tlv::suite>(static_cast<std::uint16_t>(api::suite::aead_aes_128_gcm));
        request.add<tlv::key_source>(source).add<tlv::peer>("bob");
        if (!half.empty())
            request.add<tlv::seed>(half);
        const auto shift = [port](endpoint of) {
            of.port = static_cast<std::uint16_t>(of.port + port);
            return wire(of);
        };
        request.add<tlv::gateway_media>(wire(mapped(127, 0, 0, 1, gateway_media.local_endpoint().port())));
        request.add<tlv::inner_media>(shift(inner)).add<tlv::inner_rtcp>(shift(inner_rtcp));
        request.add<tlv::phone_media>(wire(phone)).add<tlv::phone_rtcp>(wire(phone_rtcp));
        return request;
    }
    // What the unit sends can be read under this seed.
    bool heard_under(const bytes& seed, std::uint32_t epoch = 0) {
        const auto end = end_with(seed, epoch);
        EXPECT_EQ(media.capture(phone_packet(phone, inner, rtp(sent_++))), captured::media);
        udp::endpoint sender;
        for (int i = 0; i < 4 && end->counters.received == end->counters.received_rtcp; i++)
            (void)end->unprotect(from_unit(sender));
        return end->counters.received > end->counters.received_rtcp;
    }

private:
    std::uint16_t sent_ = 1;
};

bytes exclusive_or(bytes a, const bytes& b) {
    for (std::size_t i = 0; i < a.size(); i++)
        a[i] ^= b[i];
    return a;
}

} // namespace

TEST_F(Advice, Rim24ContactsAreReadForTheNextCall) {
    begin();
    EXPECT_FALSE(ask_contact("+46701").has<tlv::level>());
    set_level("+46701", "high");
    const auto& answer = ask_contact("+46701");
    EXPECT_EQ(answer.get<tlv::level>(), "high");
    EXPECT_EQ(answer.get<tlv::reason>(), "contact +46701 (Mum): high");
    EXPECT_FALSE(answer.has<tlv::profile_level>());
    EXPECT_FALSE(answer.has<tlv::key_source>());
    set_level("+46701", "elevated");
    EXPECT_EQ(ask_contact("+46 701").get<tlv::level>(), "elevated");
    EXPECT_FALSE(ask_contact("no name, at all").has<tlv::level>());
    EXPECT_EQ(ask(message::request(exchange::contact).add<tlv::peer>("+46701")), status::ok);
}

TEST_F(Advice, Rim27TheUnitsOwnHistoryAndItsWishForKeys) {
    config.profiles.least_calls = 2;
    config.profiles.duration = {{std::chrono::seconds(300), "elevated"}};
    config.keys = key_source::unit;
    begin();
    for (int i = 0; i < 2; i++)
        advice->call_ended("+46701", 400s, false);
    set_level("+46701", "high");
    const auto& answer = ask_contact("+46701");
    EXPECT_EQ(answer.get<tlv::level>(), "high");
    EXPECT_EQ(answer.get<tlv::profile_level>(), "elevated");
    EXPECT_EQ(answer.get<tlv::key_source>(), 1);
    EXPECT_EQ(answer.get<tlv::reason>(), "contact +46701 (Mum): high; 2 calls with +46701, median 400 s: elevated");
}

TEST_F(Advice, Rim27ACallOfTwoMediaCountsOnce) {
    begin();
    ASSERT_EQ(ask(open_without(0, bytes(16, 1))), status::ok);
    ASSERT_EQ(ask(open_without(0, bytes(16, 2), 6, 10)), status::ok);
    io.run_for(60ms);
    ASSERT_EQ(ask(message::request(exchange::media_close).add<tlv::media_id>(5)), status::ok);
    EXPECT_EQ(advice->describe()["profiles"]["peers"], 0);
    ASSERT_EQ(ask(open_without(0, bytes(16, 3), 6, 10)), status::ok); // opened anew: the same call
    ASSERT_EQ(ask(message::request(exchange::media_close).add<tlv::media_id>(6)), status::ok);
    history written("alice", dir.path, {});
    written.refresh();
    ASSERT_EQ(written.all().size(), 1U);
    const auto& calls = written.all().at("bob").calls;
    ASSERT_EQ(calls.size(), 1U);
    EXPECT_GE(calls.front().duration, 50ms) << "from the first media's begin";
    EXPECT_FALSE(calls.front().failed);
}

TEST_F(Advice, Rim28KeysOfTheUnitAlone) {
    begin();
    EXPECT_EQ(ask(open_without(1)), status::bad_seed) << "it never made one";
    const auto seed = seed_made(0);
    EXPECT_EQ(seed_made(0), seed) << "asked again";
    EXPECT_EQ(ask(open_without(1, bytes(16, 1))), status::bad_seed) << "the gateway has no part in it";
    EXPECT_EQ(ask(open_without(3)), status::bad_tlv);
    ASSERT_EQ(ask(open_without(1)), status::ok);
    EXPECT_TRUE(heard_under(seed));
    EXPECT_EQ(media.describe()["open"][0]["keys"], "device");
    ASSERT_EQ(ask(open_without(1)), status::ok) << "a re-offer: the same media goes on";
    EXPECT_EQ(media.find(5)->counters.sent, 1U);
    // RIM-29: and the periodic updates
    const auto next = seed_made(1);
    EXPECT_NE(next, seed);
    const auto update = [] {
        return message::request(exchange::seed).add<tlv::media_id>(5).add<tlv::epoch>(1).add<tlv::key_source>(1);
    };
    ASSERT_EQ(ask(update()), status::ok);
    EXPECT_TRUE(heard_under(next, 1));
    EXPECT_EQ(ask(update()), status::ok) << "the answer was lost";
    EXPECT_EQ(media.describe()["seeds_held"], 1);
    EXPECT_EQ(media.describe().dump().find("\"seed\""), std::string::npos);
    ASSERT_EQ(ask(message::request(exchange::media_close).add<tlv::media_id>(5)), status::ok);
    EXPECT_EQ(media.describe()["seeds_held"], 0);
}

TEST_F(Advice, Rim28KeysOfBothAndOfTheGatewayInstead) {
    begin();
    const auto own = seed_made(0);
    const bytes half(16, 0x3c);
    EXPECT_EQ(ask(open_without(2)), status::bad_seed);
    EXPECT_EQ(ask(open_without(2, bytes(32, 1))), status::bad_seed);
    ASSERT_EQ(ask(open_without(2, half)), status::ok);
    EXPECT_TRUE(heard_under(exclusive_or(own, half)));
    // The next one the gateway makes alone after all: ours is wiped.
    (void)seed_made(1);
    ASSERT_EQ(ask(seed_request(1)), status::ok);
    EXPECT_TRUE(heard_under(bytes(16, 1), 1));
    EXPECT_EQ(media.describe()["seeds_held"], 0);
    EXPECT_EQ(media.describe()["open"][0]["keys"], "gateway");
    EXPECT_EQ(ask(message::request(exchange::seed).add<tlv::media_id>(5).add<tlv::epoch>(2)), status::bad_seed);
    EXPECT_EQ(ask(make_request(2, 15)), status::bad_seed);
    EXPECT_EQ(ask(make_request(2, 16, 3)), status::bad_tlv);
}

TEST_F(Advice, Rim28SeedIsKeyTwoSeedsAndTheXorOfBoth) {
    begin();
    constexpr std::size_t length = 28; // AEAD_AES_128_GCM: key 16, salt 12
    ASSERT_EQ(ask(make_request(0, length, 2)), status::ok);
    std::vector<bytes> own;
    for (std::size_t i = 0; i < 2; i++) {
        const auto one = *gateway.responses.back().get<tlv::seed>(i);
        own.emplace_back(one.begin(), one.end());
    }
    const bytes half(length, 0x11);
    auto request = open_without(2, half);
    request.add<tlv::seed>(half).add<tlv::key_use>(1);
    ASSERT_EQ(ask(std::move(request)), status::ok);
    secondary_config end;
    end.media = 5;
    end.suite = api::suite::aead_aes_128_gcm;
    end.use = key_use::seed_is_key;
    end.sends = protocol::direction::to_unit;
    end.inner_media = end.inner_rtcp = end.phone_media = end.phone_rtcp = phone;
    epoch_seeds seeds;
    for (const auto& one : own)
        seeds.seeds.emplace_back(exclusive_or(one, half));
    const auto other = secondary::open(end, seeds).value();
    udp::endpoint sender;
    (void)other->unprotect(from_unit(sender));
    EXPECT_EQ(other->counters.received_rtcp, 1U);
}

TEST_F(Advice, Rim33AMediaMovesWithoutALoss) {
    links now{{{"wlan9", path_kind::wlan, false}}, "lo", true};
    media.use_paths({{"wlan9"}, {"lo"}}, [&](const ip_bytes&) { return now; });
    begin();
    auto request = open_without(0, bytes(16, 0));
    request.add<tlv::path>(1);
    ASSERT_EQ(ask(std::move(request)), status::ok);
    auto shown = [&] { return media.describe()["open"][0]["path"]; };
    EXPECT_EQ(shown()["wanted"], "wlan");
    EXPECT_EQ(shown()["in_use"], "wwan");
    EXPECT_EQ(shown()["fallback"], true);
    EXPECT_EQ(media.describe()["path_fallbacks"], 1);
    EXPECT_TRUE(heard_under(bytes(16, 0)));
    const auto port = gateway.responses.back().get<tlv::unit_media>()->port;
    now = {{{"lo", path_kind::wlan, true}}, "lo", true}; // the one named is up now: the test binds it to loopback
    media.check_paths();
    EXPECT_EQ(shown()["interface"], "lo");
    EXPECT_EQ(shown()["fallback"], false);
    EXPECT_EQ(shown()["moves"], 1);
    EXPECT_TRUE(heard_under(bytes(16, 0)));
    // What is still on its way to the socket before is taken, too.
    const auto end = gateway_end();
    const auto down = end->protect(packet_class::rtp, rtp(9), clock::now());
    gateway_media.send_to(asio::buffer(down.data(), down.size()),
                          udp::endpoint(asio::ip::address_v4::loopback(), port));
    EXPECT_TRUE(until([&] { return !to_phone.empty(); }));
    auto bad = open_without(0, bytes(16, 0), 9, 20);
    bad.add<tlv::path>(3);
    EXPECT_EQ(ask(std::move(bad)), status::bad_tlv);
}
