// SPDX-License-Identifier: Apache-2.0
// See health.hpp. Owner thread: io_context.
#include "controlplane/dataplane_client/health.hpp"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cstring>
#include <fmt/format.h>

#include "controlplane/protocol/spawn.hpp"

namespace tandem::dataplane_client {

namespace {

using clock = health_report::clock;
using std::chrono::milliseconds;

constexpr milliseconds ask_interval{500}, ask_again{250}, first_ask{20};
constexpr milliseconds runs_out{2 * ask_interval}; // what holds no longer than this is asked about sooner

clock::time_point last_well(const health_report& said, const api::health_entry& part) {
    return said.at - milliseconds(part.age_ms);
}

bool well_enough(api::health_state state) noexcept {
    return state == api::health_state::ok || state == api::health_state::no_carrier;
}

// How a state is called, and what it means for a part ({0}) and whoever looks after it.
struct word {
    std::string_view name, sentence;
};

word word_of(api::health_state state) noexcept {
    using enum api::health_state;
    switch (state) {
    case ok:
        return {"ok", "{0} is well"};
    case no_answer:
        return {"no answer", "{0} of the data plane does not come round: its thread is stopped or hangs, its calls are "
                             "silent; restart tandem-dataplane"};
    case wrong:
        return {"wrong", "{0} of the data plane does not forward as it should (its own probe comes out wrong); "
                         "restart tandem-dataplane and keep its log"};
    case no_buffer:
        return {"no buffer", "{0} of the data plane finds no packet buffer; restart tandem-dataplane"};
    case interface_gone:
        return {"interface gone", "port {0} is gone: bring the interface back, then restart tandem-dataplane"};
    case interface_down:
        return {"interface down", "port {0} is down: ip link set dev {0} up"};
    case no_program:
        return {"no XDP program",
                "port {0} has lost its XDP program (somebody detached it): no media comes in; restart "
                "tandem-dataplane"};
    case foreign_program:
        return {"foreign XDP program",
                "port {0} has another's XDP program: take it away (ip link set dev {0} xdp off), "
                "then restart tandem-dataplane"};
    case no_socket:
        return {"no AF_XDP socket", "port {0} has lost an AF_XDP socket: no media comes in; restart tandem-dataplane"};
    case no_carrier:
        return {"no carrier", "port {0} has no carrier: look at the cable and the switch"};
    }
    return {"unknown", "{0} is in a state that this program does not know: update both programs together"};
}

double seconds(clock::duration d) {
    return std::chrono::duration<double>(d).count();
}

} // namespace

std::string_view text(api::health_state state) noexcept {
    return word_of(state).name;
}

std::string describe(const api::health_entry& part) {
    const std::string name(part.name, strnlen(part.name, sizeof part.name));
    return fmt::format(fmt::runtime(word_of(part.state).sentence), name);
}

std::string judge(const std::optional<health_report>& last, const std::string& connection, clock::time_point now) {
    if (!last)
        return connection.empty() ? "the data plane has not said yet how it is" : connection;
    for (const auto& part : last->parts)
        if (!well_enough(part.state) && now - last_well(*last, part) > health_limit)
            return fmt::format("{} ({:.1f} s)", describe(part), seconds(now - last_well(*last, part)));
    const auto oldest = std::ranges::min_element(last->parts, {},
                                                 [&](const api::health_entry& part) { return last_well(*last, part); });
    const auto since = oldest == last->parts.end() ? last->at : last_well(*last, *oldest);
    if (now - since <= health_limit)
        return {};
    if (!connection.empty())
        return connection;
    return fmt::format("data plane does not answer since {:.1f} s: it is stopped, or its control thread hangs; restart "
                       "tandem-dataplane",
                       seconds(now - since));
}

health_watch::health_watch(asio::io_context& io, client& of) : io_(io), client_(of), next_(io) {}

health_watch::~health_watch() {
    *alive_ = false;
}

// One that has just begun knows nothing bad yet: it answers pings at once, and a first call waits for the data plane.
void health_watch::start() {
    well_until_ = clock::now() + health_limit;
    if (std::exchange(stopped_, false))
        protocol::spawn(io_, "watch over the data plane's health", run());
}

void health_watch::stop() {
    stopped_ = true;
    next_.cancel();
}

std::string health_watch::trouble() const {
    return judge(last_, client_.trouble(), clock::now());
}

// One that was stopped and goes on says first how it was before: an ill one is not well by what runs out at once, or it
// would be well, ill and well again.
void health_watch::take(std::vector<api::health_entry> parts) {
    health_report said{clock::now(), std::move(parts)};
    auto until = said.at + health_limit;
    for (const auto& part : said.parts)
        until = std::min(until, last_well(said, part) + health_limit);
    if (last_ && !well() && until > said.at && until <= said.at + runs_out)
        return;
    last_ = std::move(said);
    well_until_ = until;
}

asio::awaitable<void> health_watch::run() {
    const auto alive = alive_;
    while (!stopped_) {
        if (client_.connected()) {
            auto said = co_await client_.health();
            if (!*alive || stopped_)
                co_return;
            if (said)
                take(std::move(*said));
        }
        next_.expires_after(!last_ ? first_ask : clock::now() + runs_out < well_until_ ? ask_interval : ask_again);
        asio::error_code ignored;
        co_await next_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        if (!*alive)
            co_return;
    }
}

} // namespace tandem::dataplane_client
