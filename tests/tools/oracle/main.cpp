// SPDX-License-Identifier: Apache-2.0
// oracle: all peers of many calls in one process, in core and access networks, and the judge of what a gateway sends
// them. It knows every key: those of SDES by its commands, those of units because it is the units.
//
// A JSON object per line on stdin, one per line back: {"ok": true, ...} or {"error": "..."}. Ends are named by number.
//   attacker space address              -> number; whatever comes to it is a violation
//   unit id gateway psk                 -> a unit whose primary is made, and made again
//   unit_state id                       -> inner (empty while it has none), up
//   unit_kill id                        -> as kill -9 of an agent; it comes back by itself
//   end number call space address ssrc first [unit inner port]   -> port; `unit`: phone and unit in one
//   far a b                             -> whose packets either hears
//   send number key|null roc to to_rtcp sends   key: {suite, hex}; roc: keep or zero; to: [address, port]
//   expect number key|null; settle number
//   place number address                -> port; new sockets. Without address (units): another port
//   restart number ssrc first
//   inject number count [attacker]      -> sent
//   reflect number count                -> sent
//   progress numbers                    -> [[sent, newest heard of the far end, heard], ...]
//   drop numbers [unsettled]            -> violations: [{end, what, detail, count}]; what waits for a key is one, but
//   for
//                                          calls whose last answer never came
//   totals                              -> violations of attackers, counts
#include <sys/epoll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <asio/executor_work_guard.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/tools/oracle/unit.hpp"
#include "tests/tools/probe.hpp"

namespace {

using namespace tandem;
using namespace tandem::oracle;
using nlohmann::json;
using std::chrono::steady_clock;

// For a key that is still to be told: as long as a proxy waits for its answer.
constexpr std::chrono::seconds patience{60};

struct unit_state {
    probing::options options;
    std::unique_ptr<probing::probe> unit;
};

class oracle_program {
public:
    explicit oracle_program(unsigned seed) : chance_(seed) {
        poll_ = epoll_create1(EPOLL_CLOEXEC);
        watch(STDIN_FILENO);
    }

    void run() {
        std::array<epoll_event, 64> events;
        while (!over_) {
            const int ready = epoll_wait(poll_, events.data(), static_cast<int>(events.size()), 3);
            const auto now = steady_clock::now();
            for (int i = 0; i < ready; ++i) {
                const int fd = events[static_cast<std::size_t>(i)].data.fd;
                if (const auto found = by_socket_.find(fd); found != by_socket_.end())
                    found->second->receive(now);
                else if (fd == STDIN_FILENO)
                    read_commands();
            }
            for (const auto& [number, one] : ends_)
                one->tick(now);
            io_.poll();
            if (now - looked_ > std::chrono::milliseconds(200)) {
                looked_ = now;
                for (const auto& [number, one] : ends_)
                    one->look_again(now, patience);
                listen_to_attackers();
            }
        }
    }

private:
    void watch(int fd) const {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = fd;
        epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event);
    }
    void watch_end(const std::shared_ptr<end>& one) {
        std::erase_if(by_socket_, [&](const auto& entry) { return entry.second == one; }); // closed ones leave epoll
        for (const int fd : one->sockets()) {
            by_socket_[fd] = one;
            watch(fd);
        }
    }

    void listen_to_attackers() {
        std::array<char, 2048> any;
        for (const int fd : attackers_)
            while (recv(fd, any.data(), any.size(), MSG_DONTWAIT) > 0)
                wrong_.add("media came to an attacker", "a replay moved a leg");
    }

    void read_commands() {
        std::array<char, 65536> part;
        const auto got = read(STDIN_FILENO, part.data(), part.size());
        if (got <= 0) {
            over_ = true;
            return;
        }
        input_.append(part.data(), static_cast<std::size_t>(got));
        for (std::size_t stop; (stop = input_.find('\n')) != std::string::npos; input_.erase(0, stop + 1)) {
            json answer;
            try {
                answer = command(json::parse(input_.substr(0, stop)));
                answer["ok"] = true;
            } catch (const std::exception& wrong) {
                answer = {{"error", wrong.what()}};
            }
            std::cout << answer.dump() << "\n" << std::flush;
        }
    }

    json command(const json& c) {
        const auto what = c.at("do").get<std::string>();
        const auto now = steady_clock::now();
        if (what == "attacker")
            return add_attacker(c);
        if (what == "unit")
            return add_unit(c);
        if (what == "unit_state") {
            const auto& unit = *units_.at(c.at("id")).unit;
            return {{"inner", unit.inner()}, {"up", unit.up()}};
        }
        if (what == "unit_kill") {
            units_.at(c.at("id")).unit->die();
            return json::object();
        }
        if (what == "end")
            return add_end(c);
        if (what == "progress")
            return progress(c);
        if (what == "drop")
            return drop(c, now);
        if (what == "totals")
            return totals();
        if (what == "far") {
            const auto &a = at(c.at("a")), &b = at(c.at("b"));
            a->far(b.get());
            b->far(a.get());
            return json::object();
        }
        return command_to(at(c.at("number")), what, c, now);
    }

    json command_to(const std::shared_ptr<end>& one, const std::string& what, const json& c, moment now) {
        one->receive(now); // what came so far came under what was agreed so far
        if (what == "send") {
            one->send_under(key_of(c.at("key")),
                            c.value("roc", "keep") == "zero" ? roc_choice::zero : roc_choice::keep);
            one->send_to(address_of(c.at("to")), address_of(c.at("to_rtcp")));
            one->start(c.value("sends", true));
        } else if (what == "expect") {
            one->ears.expect(key_of(c.at("key")), true);
            one->look_again(now, patience);
        } else if (what == "settle") {
            one->ears.settle(now);
        } else if (what == "place") {
            c.contains("address") ? one->place(c.at("address")) : one->place_unit();
            watch_end(one);
            return {{"port", one->port()}};
        } else if (what == "restart") {
            one->restart(c.at("ssrc"), c.at("first"));
        } else if (what == "inject") {
            const int socket = c.contains("attacker") ? attackers_.at(c.at("attacker")) : -1;
            return {{"sent", one->inject(chance_, c.at("count"), socket)}};
        } else if (what == "reflect") {
            return {{"sent", one->reflect(chance_, c.at("count"))}};
        } else {
            throw std::runtime_error("unknown command " + what);
        }
        return json::object();
    }

    static std::optional<srtp_key> key_of(const json& k) {
        if (k.is_null())
            return std::nullopt;
        const auto* suite = api::find_suite(std::string_view(k.at("suite").get_ref<const std::string&>()));
        const auto material = probing::from_hex(k.at("hex"));
        if (suite == nullptr)
            throw std::runtime_error("unknown suite");
        return srtp_key{suite->id, std::string(material.begin(), material.end()), {}};
    }
    static address address_of(const json& a) { return make_address(a.at(0), a.at(1)); }
    [[nodiscard]] const std::shared_ptr<end>& at(const json& number) const {
        return ends_.at(number.get<std::uint32_t>());
    }

    json add_attacker(const json& c) {
        const int fd = open_socket(c.at("space"), make_address(c.at("address"), 0));
        if (fd < 0)
            throw std::runtime_error("no socket for the attacker");
        attackers_.push_back(fd);
        return {{"number", attackers_.size() - 1}};
    }

    json add_unit(const json& c) {
        const std::string id = c.at("id");
        auto& state = units_[id];
        state.options.gateway = probing::gateway_at(c.at("gateway"));
        state.options.reconnect = true;
        state.options.says = stderr;
        state.options.make_media = [this](const protocol::message& open, std::uint64_t tsid) {
            const auto phone = *open.get<protocol::tlv::phone_media>();
            const auto found = phones_.find(probing::text(phone));
            return std::make_unique<oracle_media>(open, tsid, found == phones_.end() ? nullptr : found->second.lock());
        };
        auto psk = protocol::parse_psk(c.at("psk").get_ref<const std::string&>()).value();
        state.unit = std::make_unique<probing::probe>(io_, id, std::move(psk), state.options);
        return json::object();
    }

    json add_end(const json& c) {
        end::settings s;
        s.number = c.at("number");
        s.call = c.at("call");
        s.space = c.at("space");
        s.ssrc = c.at("ssrc");
        s.first = c.at("first");
        s.unit = c.contains("inner");
        const auto one = std::make_shared<end>(s, book_);
        if (s.unit) {
            one->place_unit();
            phones_[c.at("inner").get<std::string>() + ":" + std::to_string(c.at("port").get<unsigned>())] = one;
        } else {
            one->place(c.at("address"));
        }
        ends_[s.number] = one;
        watch_end(one);
        return {{"port", one->port()}};
    }

    json progress(const json& c) const {
        json out = json::array();
        for (const auto& number : c.at("numbers")) {
            const auto& one = at(number);
            out.push_back({one->sent_numbers(), one->newest_heard, one->heard});
        }
        return {{"ends", out}};
    }

    json drop(const json& c, moment now) {
        json list = json::array();
        for (const auto& number : c.at("numbers")) {
            const auto one = at(number);
            one->receive(now);
            one->look_again(now, c.value("unsettled", false) ? patience : std::chrono::seconds(0));
            for (const auto& [what, v] : one->wrong.list())
                list.push_back({{"end", number}, {"what", what}, {"detail", v.detail}, {"count", v.count}});
            for (const auto& key : one->send_keys)
                book_.forget(key);
            heard_ += one->heard, sent_ += one->sent, injected_ += one->injected, opened_ += one->ears.opened;
            std::erase_if(by_socket_, [&](const auto& entry) { return entry.second == one; });
        }
        for (const auto& number : c.at("numbers"))
            ends_.erase(number.get<std::uint32_t>());
        std::erase_if(phones_, [](const auto& entry) { return entry.second.expired(); });
        return {{"violations", list}};
    }

    json totals() {
        listen_to_attackers();
        json list = json::array();
        for (const auto& [what, v] : wrong_.list())
            list.push_back({{"end", 0}, {"what", what}, {"detail", v.detail}, {"count", v.count}});
        return {{"violations", list}, {"sent", sent_}, {"heard", heard_}, {"injected", injected_}, {"opened", opened_}};
    }

    std::mt19937 chance_;
    asio::io_context io_{1}; // the units'
    asio::executor_work_guard<asio::io_context::executor_type> stays_{io_.get_executor()};
    int poll_ = -1;
    bool over_ = false;
    std::string input_;
    moment looked_{};
    ledger book_;
    violations wrong_;
    std::map<std::uint32_t, std::shared_ptr<end>> ends_;
    std::map<int, std::shared_ptr<end>> by_socket_;
    std::map<std::string, std::weak_ptr<end>> phones_; // inner address:port
    std::map<std::string, unit_state> units_;
    std::vector<int> attackers_;
    std::uint64_t sent_ = 0, heard_ = 0, injected_ = 0, opened_ = 0;
};

} // namespace

int main(int argc, char** argv) {
    CLI::App cli{"All peers of many calls, and their judge; commands by lines of JSON on stdin"};
    unsigned seed = 1;
    cli.add_option("--seed", seed, "which packets are injected");
    CLI11_PARSE(cli, argc, argv);
    try {
        oracle_program(seed).run();
    } catch (const std::exception& wrong) {
        std::cerr << "oracle: " << wrong.what() << "\n";
        return 1;
    }
    return 0;
}
