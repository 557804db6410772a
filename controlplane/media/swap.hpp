// SPDX-License-Identifier: Apache-2.0
// A change of a media that runs, whatever it is of, in five steps (README.md):
//
//   build        what is new, beside what is in force: seeds, keys n+1
//   confirm      the units take it
//   switch_over  the data plane does, in one request: from here on it is in force
//   linger       the old is let go of, at once or after the overlap
//   take_back    instead, where a step was refused: nothing in force has changed
//
//   terms_swap next(*this, m, want); // re-offer, mux, suite, clear to encrypted, another party, a secondary anew
//   epoch_swap next(*this, m, leg);  // re-key: one leg's next epoch
//   auto done = co_await swap::run(next);
//
// In the turn of what it changes. Private to this room. Owner thread: io_context.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "controlplane/media/state.hpp"

namespace tandem::media {

class manager::swap {
public:
    swap(manager& of, media_ptr m) : of_(of), m_(std::move(m)) {}
    swap(const swap&) = delete;
    swap& operator=(const swap&) = delete;
    virtual ~swap() = default;

    // All of them, or none: each is built and confirmed, then each switched. Where one was refused, or an error came
    // from inside, all are taken back.
    static asio::awaitable<result<void>> run(std::span<swap* const> all);
    static asio::awaitable<result<void>> run(swap& one);

protected:
    virtual asio::awaitable<result<void>> build() = 0;
    virtual asio::awaitable<result<void>> confirm() = 0;
    virtual asio::awaitable<result<void>> switch_over() = 0;
    virtual void linger() = 0;
    virtual asio::awaitable<void> take_back() = 0;
    // Nothing of it runs yet: it goes first, because it can be taken out again at any time.
    [[nodiscard]] virtual bool is_first() const { return false; }
    [[nodiscard]] bool gone() const noexcept { return of_.gone(*m_); }

    manager& of_;
    const media_ptr m_;

private:
    static asio::awaitable<result<void>> advance(std::span<swap* const> all);
};

// From the terms in force to others. Nothing of `want` is in force before the data plane took it.
class manager::terms_swap final : public manager::swap {
public:
    terms_swap(manager& of, media_ptr m, media_terms want) : swap(of, std::move(m)), want_(std::move(want)) {}
    // Sources of clear media are learned anew: an answer's.
    void is_signalled() noexcept { signalled_ = true; }
    // The leg's unit has lost its secondary: it begins anew from index 0 under a fresh epoch, the other leg goes on.
    void renews(std::size_t leg) noexcept { renews_[leg] = true; }

protected:
    asio::awaitable<result<void>> build() override;
    asio::awaitable<result<void>> confirm() override;
    asio::awaitable<result<void>> switch_over() override;
    void linger() override;
    asio::awaitable<void> take_back() override;
    [[nodiscard]] bool is_first() const override { return installs_; }

private:
    enum class word : std::uint8_t { none, moved, opened }; // what a leg's unit heard of it

    asio::awaitable<result<void>> begin(std::array<bool, 2> which);
    void note_opening(std::array<bool, 2> which);
    asio::awaitable<result<void>> tell_move(std::size_t i, bool& lost);
    asio::awaitable<result<void>> switch_flows();
    void commit(std::array<bool, 2> goes_on, const std::array<key_step, 2>& keys);
    asio::awaitable<void> switch_back();
    [[nodiscard]] static bool reversible(const media_terms& before, const media_terms& now);

    media_terms want_, before_ = m_->now;
    std::array<word, 2> told_{};
    std::array<epoch_seeds, 2> seeds_; // of secondaries that begin
    std::array<bool, 2> begins_{}, renews_{};
    bool installs_ = false, made_ = false, signalled_ = false;
};

// A unit leg's next epoch. A SEED that fails leaves n in force; n+1 stays ready with the same seed (the unit may have
// it) and is offered again: there is nothing to take back.
class manager::epoch_swap final : public manager::swap {
public:
    epoch_swap(manager& of, media_ptr m, std::size_t leg) : swap(of, std::move(m)), i_(leg), leg_(m_->legs[leg]) {}
    // The unit does not know this media, or counts epochs otherwise: only a new secondary helps.
    [[nodiscard]] bool refused() const noexcept { return refused_; }

protected:
    asio::awaitable<result<void>> build() override;
    asio::awaitable<result<void>> confirm() override;
    asio::awaitable<result<void>> switch_over() override;
    void linger() override;
    asio::awaitable<void> take_back() override { co_return; }

private:
    asio::awaitable<result<void>> make_room();
    static asio::awaitable<void> retire_later(manager* of, media_ptr m, std::size_t i, std::uint32_t epoch);
    static asio::awaitable<void> retire(manager& of, media_ptr m, std::size_t i, std::uint32_t epoch);

    const std::size_t i_;
    leg& leg_;
    std::uint32_t old_ = 0;
    bool refused_ = false;
};

// All flows of a media in one group, from what is there to what is planned. m->plan and the legs' state stay the
// caller's.
struct manager::replacement {
    flows_by_leg before;
    std::optional<std::array<leg_shape, 2>> was; // what m->plan was made of; none: what was found is not known so well
    std::array<bool, 2> goes_on{};
    std::array<key_step, 2> keys;
    bool learn_anew = false; // where clear media come from

    asio::awaitable<result<void>> make(manager& of, media_ptr m, const media_terms& want,
                                       const std::vector<api::flow_config>& plan,
                                       const std::array<epoch_seeds, 2>& seeds) const;

private:
    void choose_keys(std::vector<api::flow_replacement>& items, const std::array<leg_shape, 2>& shapes,
                     const std::vector<api::epoch_key>& fresh) const;
    static asio::awaitable<bool> was_made(manager& of, media_ptr m, const std::vector<api::flow_replacement>& items);
    asio::awaitable<void> remove_left(manager& of, const std::vector<api::flow_replacement>& items) const;
};

} // namespace tandem::media
