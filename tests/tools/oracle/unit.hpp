// SPDX-License-Identifier: Apache-2.0
// A unit's secondary as the oracle plays it: keys come by the primary (probe.hpp) and go to the end that is its phone,
// found by the phone's address in MEDIA_OPEN. As an agent's: a MEDIA_OPEN under another epoch begins with fresh SRTP
// state, a SEED goes on with the rollover counters.
#pragma once

#include "tests/tools/oracle/end.hpp"
#include "tests/tools/probe_media.hpp"

namespace tandem::oracle {

class oracle_media : public probing::unit_media {
public:
    oracle_media(const protocol::message& open, std::uint64_t tsid, std::shared_ptr<end> phone)
        : unit_media(open), id_(*open.get<protocol::tlv::media_id>()), tsid_(tsid),
          seed_is_key_(open.get<protocol::tlv::key_use>() == protocol::wire(protocol::key_use::seed_is_key)),
          phone_(std::move(phone)) {
        if (phone_)
            phone_->ears.begin_anew(std::chrono::steady_clock::now());
    }
    ~oracle_media() override {
        if (phone_)
            phone_->start(false);
    }

    bool rekey(const std::vector<protocol::secret>& seeds, std::uint32_t epoch) override {
        const auto keys = probing::keys_of(seeds, seed_is_key_, tsid_, id_, epoch, suite_);
        if (!keys || !phone_)
            return false;
        phone_->ears.expect(key_of(keys->down, epoch), keyed_);
        phone_->ears.settle(std::chrono::steady_clock::now());
        phone_->send_under(key_of(keys->up, epoch), keyed_ ? roc_choice::keep : roc_choice::zero);
        to_gateway();
        phone_->start(true);
        keyed_ = true;
        epoch_ = epoch;
        return true;
    }
    void moved(const protocol::message& open) override {
        unit_media::moved(open);
        if (phone_)
            to_gateway();
    }
    void send(probing::totals&) override {} // the end's own clock
    void receive(probing::totals&) override {}
    [[nodiscard]] std::uint32_t sending() const noexcept override { return epoch_; }
    [[nodiscard]] std::uint16_t port() const override { return phone_ ? phone_->port() : std::uint16_t{0}; }

private:
    [[nodiscard]] srtp_key key_of(const protocol::secret& from, std::uint32_t epoch) const {
        const auto view = from.view();
        return {suite_, std::string(view.begin(), view.end()), epoch};
    }
    void to_gateway() {
        const auto at = probing::to_sockaddr(gateway_);
        address to;
        to.length = sizeof at;
        std::memcpy(&to.storage, &at, sizeof at);
        phone_->send_to(to, to);
    }

    std::uint32_t id_;
    std::uint64_t tsid_;
    bool seed_is_key_;
    std::shared_ptr<end> phone_;
    bool keyed_ = false;
    std::uint32_t epoch_ = 0;
};

} // namespace tandem::oracle
