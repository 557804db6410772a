// SPDX-License-Identifier: Apache-2.0
// media::relay over the real things: the data plane (contract client), units (session directory), levels (policy), the
// journal. The room's public class; app/ makes one and hands it to call control.
//
//   media::manager relay(io, settings, dataplane, stats, sessions, levels, journal);
//   sessions.on_up = [&](auto& s) { relay.session_up(s); };  sessions.on_down = ...;
//   relay.start();                 // loads the journal; takes the flows over at each connect of the data plane
//
// Owner thread: the control plane's io_context.
#pragma once

#include <array>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/dataplane_client/stats_reader.hpp"
#include "controlplane/media/journal.hpp"
#include "controlplane/media/observer.hpp"
#include "controlplane/media/ports.hpp"
#include "controlplane/media/relay.hpp"
#include "controlplane/policy/decide.hpp"
#include "controlplane/session/directory.hpp"

namespace tandem::media {

struct settings {
    std::uint16_t first_port = 20000, last_port = 40000;
    std::string access = "access", core = "core"; // logical address names
    std::string gateway;                          // its name, unlike other gateways': part of its media's ids
    std::chrono::seconds timeout{60};
    std::chrono::seconds hold_timeout{3600};      // while both directions are on hold
    std::chrono::milliseconds quarantine{5000};   // of released ports
    std::chrono::milliseconds unit_timeout{2000}; // for a unit's answer
    std::chrono::milliseconds retry{1000};        // after a failed SEED
    std::chrono::milliseconds ready_wait{2000};   // for a data plane that is just coming back
    std::chrono::milliseconds sweep{1000};        // silence check
    std::chrono::milliseconds tick{10000};        // of observers
    double unit_reserve = 0.1; // of ports and flows: for calls with a unit, while units are connected
    learning endpoint_learning = learning::once;
    std::map<std::string, learning> learning_of;     // interfaces for which it is another
    std::chrono::milliseconds learning_window{3000}; // from a leg's first packet on
    std::chrono::milliseconds copy{1000};            // of SDES legs' packet counts, out of the data plane
};

struct epoch_seeds;
struct key_step;
struct leg;
struct leg_terms;
struct media_terms;
struct flows_by_leg;

struct media_counters {
    std::uint64_t opened = 0, ended = 0, timeouts = 0;
    std::uint64_t open_failures = 0; // refused: ports, session, data plane
    std::uint64_t seeds_sent = 0, rekeys = 0, rekey_failures = 0;
    std::uint64_t seeds_made = 0;         // by the gateway's own generator
    std::uint64_t seeds_from_units = 0;   // made by units and taken
    std::uint64_t unit_seeds_refused = 0; // wrong length, or the last epoch's again: the gateway made one instead
    std::uint64_t unit_seeds_missing = 0; // the unit does not make seeds, or did not answer: likewise
    std::uint64_t contacts_asked = 0, contacts_answered = 0; // CONTACT; the rest gave no advice
    std::uint64_t media_opens = 0, media_open_failures = 0;
    std::uint64_t taken_over = 0;    // media found again in the data plane
    std::uint64_t reinstalled = 0;   // media put into a data plane that had lost it
    std::uint64_t renewed = 0;       // secondaries that began anew because the unit had lost them
    std::uint64_t repaired = 0;      // media whose flows were found half changed
    std::uint64_t unknowable = 0;    // media that ended because their packet counts were lost
    std::uint64_t foreign_flows = 0; // flows removed because no media is known for them
};

class manager final : public relay {
public:
    manager(asio::io_context& io, settings options, dataplane_client::client& dataplane,
            dataplane_client::stats_reader& stats, session::directory& sessions, policy::decider& levels,
            journal& store);
    ~manager() override;
    manager(const manager&) = delete;
    manager& operator=(const manager&) = delete;

    // Is told of media from now on; before start().
    void observe(observer& who) { observers_.add(who); }
    // Loads the journal; sets the client's on_connect, on_disconnect and on_event.
    void start();
    void stop(); // calls stay in the data plane; observers hear that they are handed on

    [[nodiscard]] std::optional<error> denies(const media_request& request) override;
    [[nodiscard]] bool may_deny() const override { return levels_.may_deny(); }
    asio::awaitable<result<media_locals>> open(const media_request& request) override;
    void withdraw(media_id id) override;
    asio::awaitable<result<std::vector<media_locals>>> update(std::vector<media_change> changes) override;
    asio::awaitable<void> learn_anew(std::vector<media_id>) override;
    asio::awaitable<void> close(media_id id, const std::string& cause) override;
    [[nodiscard]] std::optional<asio::ip::address> address_named(const std::string& name, bool ipv6) const override;
    [[nodiscard]] std::optional<media_info> info(media_id id) const override;
    [[nodiscard]] std::vector<media_info> all() const override;

    // New seeds now on every unit leg; the epochs then in force (none for core legs).
    asio::awaitable<result<std::array<std::optional<std::uint32_t>, 2>>> rekey(media_id id);

    void session_up(const session::session_info& session);
    void session_down(const session::session_info& session, bool final);

    // Fills a seed with random bytes; the kernel's generator unless a test says otherwise.
    using generator = std::function<bool(std::span<std::uint8_t>)>;
    void use_generator(generator source) { generator_ = std::move(source); }

    // Media that belong to no call any more (asked once, after call control has recovered its calls).
    asio::awaitable<void> close_all_but(std::vector<media_id> known, std::string cause);

    [[nodiscard]] const media_counters& count() const noexcept { return counters_; }
    [[nodiscard]] const settings& options() const noexcept { return options_; }
    [[nodiscard]] std::size_t free_ports();
    struct port_room {
        std::string name; // of the address, as the data plane has it
        asio::ip::address ip;
        std::size_t total, free; // pairs; those that rest after a call serve where none else is free
    };
    [[nodiscard]] std::vector<port_room> port_rooms(); // of the addresses that a call has used yet
    // Names that the configuration has and the data plane has not: calls that need one are refused.
    [[nodiscard]] std::vector<std::string> unknown_names() const;
    struct flow_room {
        std::size_t total = 0;    // of the data plane's, for new calls
        std::size_t reserved = 0; // what the media that there are may need, re-offers included
    };
    [[nodiscard]] flow_room flow_rooms() const;
    // What the units among these two say of a call between them now: those that are up are asked (`policy explain`).
    asio::awaitable<std::vector<policy::advice>> advice(policy::party caller, policy::party callee);
    // Units that should make their call's seeds and do not, so that the gateway does: an alarm while there are any.
    [[nodiscard]] std::vector<std::string> units_without_seeds() const;
    // MEDIA_CLOSEs that their units have not answered yet.
    [[nodiscard]] std::size_t unanswered_closes() const noexcept { return owed_.size(); }
    // The data plane is connected and its flows are matched with the journal.
    [[nodiscard]] bool ready() const noexcept { return ready_; }

private:
    struct state;
    class swap; // swap.hpp
    class terms_swap;
    class epoch_swap;
    struct replacement;
    using media_ptr = std::shared_ptr<state>;
    enum class seed_use { fresh, rekey }; // of a secondary that begins, of one in force

    // legs.cpp: what is asked for as terms, with ports
    result<media_terms> plan(const state& m, const media_request& request);
    static void keep_held(const state& m, std::size_t i, leg_terms& want);
    result<leg_terms> plan_leg(const state& m, std::size_t i, const leg_request& request);
    result<void> plan_unit(const state& m, std::size_t i, leg_terms& want);
    result<void> take_port(const state& m, std::size_t i, leg_terms& want, const std::string& name, bool v6);
    // room.cpp: found at the offer
    [[nodiscard]] result<void> check_room(const media_request& request) const;
    // decide_call.cpp: level of a call, CONTACT
    [[nodiscard]] policy::question question_of(const facts& of, const media_request& request) const;
    static void take_decision(facts& of, policy::decision decided);
    void ask_contacts(const media_ptr& m, const media_terms& of);
    // Refused where the media ended meanwhile, or policy denies the call.
    asio::awaitable<result<void>> decide_call(media_ptr m, const media_terms& of, policy::question call);
    // manager.cpp
    [[nodiscard]] media_id new_id();
    asio::awaitable<result<void>> wait_ready();
    [[nodiscard]] bool gone(const state& m) const noexcept; // what awaited over it gives up
    void learn(state& m, const media_request& request);
    void remember(const media_ptr& m);
    void forget(const media_ptr& m);
    void end_by_itself(const media_ptr& m, const std::string& cause);
    void save(const state& m);
    void note(const state& m); // likewise, but may be lost
    // change.cpp: an answer's changes, of all its media or of none
    asio::awaitable<result<void>> decide_all(const std::vector<media_ptr>& all, std::vector<media_terms>& want,
                                             const std::vector<media_change>& changes);
    asio::awaitable<result<void>> apply_all(const std::vector<media_ptr>& all, std::vector<media_terms> want);
    asio::awaitable<void> tell_again(media_ptr m, std::size_t i);
    // install.cpp: from nothing
    void aim(const state& m, const media_terms& of, std::vector<api::flow_config>& plan,
             std::array<bool, 2> which) const;
    asio::awaitable<result<void>> install(media_ptr m, media_terms want);
    asio::awaitable<result<void>> install_flows(media_ptr m, const media_terms& want,
                                                const std::array<epoch_seeds, 2>& seeds);
    asio::awaitable<void> uninstall(media_ptr m);
    asio::awaitable<result<void>> add_flows(const std::vector<api::flow_config>& plan);
    asio::awaitable<void> remove_flows(std::vector<api::flow_config> plan);
    void remember_slots(const dataplane_client::client::statuses& answer);
    asio::awaitable<void> begin_early(media_ptr m);
    asio::awaitable<result<void>> update_flows(media_ptr m, std::vector<api::flow_config> plan, bool anew = false);
    // streams.cpp: packet counts of SDES legs, should the data plane's memory be lost
    asio::awaitable<void> copy_streams();
    void take_streams(const std::vector<api::stream_item>& all, const std::map<api::flow_id, std::uint64_t>& packets);
    void freeze_streams();
    [[nodiscard]] std::uint64_t packets_of(api::flow_id id) const;
    [[nodiscard]] static bool streams_known(const state& m);
    asio::awaitable<result<void>> put_streams(media_ptr m, const media_terms& of);

    // seeds.cpp: who makes an epoch's seeds
    bool fill(state& m, protocol::secret& seed);
    bool own_seeds(state& m, epoch_seeds& to);
    bool combine(state& m, epoch_seeds& to, const protocol::message& answer);
    [[nodiscard]] static std::string fault_of(const state& m, leg& l, std::uint32_t told, std::uint32_t epoch,
                                              const protocol::message& answer);
    void replace_seeds(const media_ptr& m, leg& l, const std::string& unit, std::uint32_t epoch,
                       const std::string& why);
    // `to`: the leg as planned or in force, whose unit is asked.
    asio::awaitable<result<epoch_seeds>> make_seeds(media_ptr m, std::size_t i, leg_terms to, std::uint32_t epoch,
                                                    seed_use use);
    // Of the secondaries that begin (epoch set): both units make theirs at the same time.
    asio::awaitable<result<void>> first_seeds(media_ptr m, const media_terms& of, std::array<epoch_seeds, 2>& seeds,
                                              std::array<bool, 2> which);
    // secondary.cpp: keys, MEDIA_OPEN, MEDIA_CLOSE
    // All keys of flows that were just added, and what is sent under from the start.
    asio::awaitable<result<void>> install_keys(media_ptr m, const media_terms& of,
                                               const std::array<epoch_seeds, 2>& seeds);
    // In the leg's turn. What the unit says of its address becomes the leg's hint. `lost`: of a secondary in force,
    // of which the unit may say that it has lost it.
    asio::awaitable<result<void>> send_media_open(media_ptr m, media_terms& of, std::size_t i, const epoch_seeds& seeds,
                                                  bool* lost = nullptr);
    void close_secondary(const leg_terms& of, media_id id); // the answer is not waited for
    asio::awaitable<void> send_media_close(session::tsid unit, std::uint32_t number);
    void spawn_media_close(session::tsid unit, std::uint32_t number);
    void close_owed(session::tsid unit);
    [[nodiscard]] bool without_session(const state& m) const; // its unit's is over, and nobody ended it
    // rekey.cpp: SEED
    asio::awaitable<result<void>> rekey_locked(media_ptr m, std::size_t i, bool& anew);
    asio::awaitable<result<std::uint32_t>> rekey_leg(media_ptr m, std::size_t i);
    asio::awaitable<result<std::uint32_t>> rekey_or_fail(media_ptr m, std::size_t i);
    asio::awaitable<void> rekey_loop(media_ptr m, std::size_t i);
    asio::awaitable<result<void>> renew(media_ptr m, std::size_t i);
    void start_loops(const media_ptr& m);

    // takeover.cpp: reconnect of the data plane, events, silence
    asio::awaitable<void> reconcile(bool flows_lost);
    using flows_of_media = std::map<media_id, std::vector<const api::flow_entry*>>;
    struct tidying { // of flows that are taken over
        std::vector<api::flow_ref> foreign;
        std::vector<api::epoch_ref> ended;
        std::vector<api::flow_update> corrected;
    };
    bool adopt(const media_ptr& m, const std::vector<const api::flow_entry*>& found, tidying& rest);
    asio::awaitable<void> tidy(const tidying& rest, std::uint64_t era);
    static void learn(state& m, std::size_t from, const api::flow_entry& entry);
    asio::awaitable<void> reinstall(media_ptr m, std::string why);
    void number_addresses(media_terms& of) const;
    [[nodiscard]] static bool answers(state& m, const std::vector<const api::flow_entry*>& found);
    [[nodiscard]] std::vector<api::flow_update> corrections(const state& m, std::vector<api::flow_config> have) const;
    asio::awaitable<void> end_half_made(media_ptr m, const std::vector<api::flow_entry>& found, std::string why);
    void spawn_repair(const media_ptr& m, const std::vector<const api::flow_entry*>& found);
    asio::awaitable<void> repair(media_ptr m, std::vector<api::flow_entry> found);
    void on_event(const api::flow_event& event);
    void on_latched(const media_ptr& m, const api::flow_event& event);
    void sweep();
    void restore(const media_row& row);
    [[nodiscard]] media_ptr find(media_id id) const;

    // info.cpp
    [[nodiscard]] std::optional<api::flow_stats> stats_of(api::flow_id id) const;
    [[nodiscard]] direction_stats received(const state& m, std::size_t i) const;
    [[nodiscard]] media_info describe(const state& m) const;
    void tell_begin(state& m, observer::beginning how);
    void tell_tick(state& m, std::chrono::steady_clock::time_point now);
    void tell_end(state& m, observer::ending how, const std::string& cause);
    [[nodiscard]] media_row to_row(const state& m) const;
    [[nodiscard]] media_record to_record(const state& m, const std::string& cause) const;

    asio::io_context& io_;
    settings options_;
    dataplane_client::client& dataplane_;
    dataplane_client::stats_reader& stats_;
    session::directory& sessions_;
    policy::decider& levels_;
    journal& journal_;
    observers observers_;
    media_counters counters_;
    std::map<media_id, media_ptr> media_;
    std::unordered_map<std::string, std::vector<media_ptr>> calls_; // by call id
    std::shared_ptr<port_table> ports_;
    std::size_t reserved_flows_ = 0; // by all media
    // MEDIA_CLOSEs that no unit has answered yet; true: under way.
    std::map<std::pair<session::tsid, std::uint32_t>, bool> owed_; // by session and number
    generator generator_;
    media_id gateway_part_ = 0;
    std::uint32_t next_number_ = 1;
    std::unordered_set<std::uint32_t> numbers_; // of all media
    asio::steady_timer sweep_timer_;
    std::uint64_t connect_era_ = 0;
    asio::steady_timer copy_timer_;
    bool ready_ = false;
    bool stopped_ = false;
};

} // namespace tandem::media
