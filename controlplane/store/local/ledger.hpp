// SPDX-License-Identifier: Apache-2.0
// Calls and media in progress, and the one record that each call becomes. The rule:
//   a call's record is written when call control has said that it ended and none of its media is left, in the same
//   transaction as whichever of these was last; with it go its rows, and the pair's profile learns of it.
// What is in the database is mirrored here, so that each step only writes. A Call-ID may come again while its earlier
// call is not finished: each has a number of its own, and a media belongs to a number.
// Private to this room. Owner thread: io_context.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "controlplane/callcontrol/ng_server.hpp"
#include "controlplane/media/journal.hpp"
#include "controlplane/store/local/rows_left.hpp"
#include "controlplane/store/local/writer.hpp"

namespace tandem::store {

class ledger final : public callcontrol::call_store, public media::journal {
public:
    ledger(connection& db, writer& to, std::string instance, bool to_ship);

    // Reads what an earlier process left and finishes what it left half-way.
    void recover();
    // Set: writes are done at the end of the io_context's turn, or by flush(), whichever comes first.
    std::function<void()> flush_at_end_of_turn;

    // call_store
    void put(const std::string& call_id, const std::string& json) override;
    void end(const callcontrol::ended_call& call) override;
    void erase(const std::string& call_id) override;
    void each(const callcontrol::call_store::taker& give) override;
    void flush() override { to_.flush(); }
    // journal
    void put(const media::media_row& row) override;
    void erase(media::media_id id) override;
    void note(const media::media_row& row) override;
    void each(const media::journal::taker& give) override;
    void record(const media::media_record& ended) override;
    void set_generation(std::uint64_t generation) override;
    std::uint64_t generation() override;

private:
    struct call {
        std::int64_t number = 0;
        std::string call_id, record; // record: made when the call is first put
        bool put = false;            // call control knows it, or did when it ended
        std::optional<callcontrol::ended_call> ended;
        std::size_t live = 0; // media in progress
        std::vector<media::media_record> over;
        bool over_kept = false; // some of them are in the database
    };
    using call_ptr = std::shared_ptr<call>;

    call_ptr open_call(const std::string& call_id); // the one that goes on, made where there is none
    [[nodiscard]] bool due(const call& c) const;    // nothing of it goes on
    void settle(const call_ptr& c);                 // its record where it is due; the change is complete
    void add_record(call& c);
    [[nodiscard]] call_record record_of(call& c) const;
    static void take_times(call_record& record, call& c);
    void add(operation op) { change_.push_back(std::move(op)); }
    void complete();
    void load_calls(rows_left& from, std::map<std::int64_t, call_ptr>& all);
    void load_media(rows_left& from, std::map<std::int64_t, call_ptr>& all);
    void read(const char* what, const std::function<void(rows_left&)>& work);

    connection& db_;
    writer& to_;
    std::string instance_;
    bool to_ship_;
    std::int64_t last_call_ = 0, last_over_ = 0;
    std::unordered_map<std::string, call_ptr> open_; // by Call-ID: not ended
    std::unordered_map<media::media_id, call_ptr> media_;
    std::vector<operation> change_; // being made
};

} // namespace tandem::store
