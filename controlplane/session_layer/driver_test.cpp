// SPDX-License-Identifier: Apache-2.0
// A session over TLS and TCP of loopback, both ends in one io_context: a transfer goes on while its links are killed
// and replaced (COL-08, COL-15, COL-16), and a link joins by the secret that was made on the first one (COL-28).
#include <gtest/gtest.h>

#include "controlplane/link/link_fixture.hpp"
#include "controlplane/session_layer/driver.hpp"

namespace tandem::session_layer {
namespace {

using link::testing::bytes;
using namespace std::chrono_literals;

class Driver : public link::testing::Link {
protected:
    struct ends {
        std::shared_ptr<link::tls_tcp> unit, gateway;
    };
    // A connection with its handshake done.
    ends connect() {
        join();
        establish();
        return {std::shared_ptr<link::tls_tcp>(std::move(unit_)), std::shared_ptr<link::tls_tcp>(std::move(gateway_))};
    }
    void begin() {
        const auto first = connect();
        const auto secret = new_secret_of(*first.unit, tsid);
        ASSERT_FALSE(secret.empty());
        EXPECT_TRUE(std::ranges::equal(secret.view(), new_secret_of(*first.gateway, tsid).view()));
        const auto now = std::chrono::steady_clock::now();
        from_ = std::make_shared<driver>(io_.get_executor(), session(role::creator, tsid, secret, {}, now),
                                         [this](const event& e) { on_sender(e); });
        to_ = std::make_shared<driver>(io_.get_executor(), session(role::accepter, tsid, secret, {}, now),
                                       [this](const event& e) { on_receiver(e); });
        use(first, 1, reason::start);
        id_ = from_->use([](session& s) { return s.open(stream_kind::octets, "file"); }).value();
    }
    void use(const ends& over, std::uint32_t network, reason why) {
        to_->accept(over.gateway, binding_of(*over.gateway));
        newest_ = from_->dial(over.unit, network, binding_of(*over.unit));
        from_->move(newest_, why);
    }
    void TearDown() override {
        for (auto& d : {from_, to_})
            if (d)
                d->stop();
        io_.restart();
        io_.run_for(10ms);
    }

    static std::uint8_t octet(std::uint64_t offset) { return static_cast<std::uint8_t>(offset * 131 + offset / 257); }
    void fill() {
        from_->use([this](session& s) {
            bytes chunk;
            while (written_ < total_) {
                chunk.resize(std::min<std::uint64_t>(65536, total_ - written_));
                for (std::size_t i = 0; i < chunk.size(); ++i)
                    chunk[i] = octet(written_ + i);
                const auto took = s.write(id_, chunk);
                written_ += took;
                if (took < chunk.size())
                    return;
            }
            s.close(id_);
        });
    }
    void on_sender(const event& e) {
        if (std::holds_alternative<writable>(e))
            fill();
        if (const auto* h = std::get_if<handover>(&e))
            handovers_.push_back(*h);
        if (const auto* s = std::get_if<stall>(&e))
            stalls_.push_back(*s);
    }
    void on_receiver(const event& e) {
        if (const auto* r = std::get_if<received>(&e)) {
            for (const auto o : r->octets)
                wrong_ += o == octet(read_++) ? 0U : 1U;
            to_->use([&](session& s) { s.consumed(r->stream, r->octets.size()); });
        }
        ended_ = ended_ || std::holds_alternative<closed>(e);
    }

    static constexpr std::uint64_t tsid = 0x1234;
    std::shared_ptr<driver> from_, to_;
    stream_id id_ = 0;
    link_id newest_ = 0;
    std::uint64_t total_ = 0, written_ = 0, read_ = 0, wrong_ = 0;
    bool ended_ = false;
    std::vector<handover> handovers_;
    std::vector<stall> stalls_;
};

TEST_F(Driver, ATransferOutlivesTwentyLinks) {
    begin();
    total_ = 32U << 20;
    fill();
    for (std::uint32_t i = 1; i <= 20; ++i) {
        const auto until = total_ * i / 21;
        run([&] { return read_ >= until; });
        const auto old = newest_;
        if (i % 2 == 0)
            from_->drop(old); // no network for a moment: hard
        use(connect(), 1 + i, i % 2 == 0 ? reason::lost : reason::better);
        run([&] { return handovers_.size() == i + 1 && !from_->state().handing_over(); });
        if (i % 2 != 0)
            from_->drop(old);
    }
    run([&] { return ended_; });
    EXPECT_EQ(read_, total_);
    EXPECT_EQ(wrong_, 0U);
    std::uint64_t again = 0;
    std::size_t soft = 0;
    std::chrono::steady_clock::duration longest{};
    for (const auto& h : handovers_) {
        EXPECT_EQ(h.how, handover_end::completed);
        soft += h.kind == handover_kind::soft ? 1U : 0U;
        again += h.sent_again;
        EXPECT_TRUE(h.kind != handover_kind::soft || h.sent_again == 0);
    }
    for (const auto& s : stalls_)
        longest = std::max(longest, s.ended - s.began);
    EXPECT_EQ(soft, 10U);
    std::printf("20 handovers, %zu soft; %llu octets sent again of %llu; longest stall %lld us\n", soft,
                static_cast<unsigned long long>(again), static_cast<unsigned long long>(total_),
                static_cast<long long>(std::chrono::duration_cast<std::chrono::microseconds>(longest).count()));
}

TEST_F(Driver, ALinkWithoutTheSecretIsClosed) { // COL-28
    begin();
    run([&] { return !handovers_.empty(); });
    const auto another = connect();
    auto thief = std::make_shared<driver>(
        io_.get_executor(),
        session(role::creator, tsid, new_secret_of(*another.unit, tsid), {}, std::chrono::steady_clock::now()),
        [](const event&) {});
    to_->accept(another.gateway, binding_of(*another.gateway));
    thief->move(thief->dial(another.unit, 1, binding_of(*another.unit)), reason::lost);
    run([&] { return to_->state().errors(error::wrong_secret) == 1 && thief->state().links() == 0; });
    EXPECT_EQ(to_->state().links(), 1U);
    thief->stop();
}

} // namespace
} // namespace tandem::session_layer
