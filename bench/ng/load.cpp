// SPDX-License-Identifier: Apache-2.0
// tandem-ng-load: calls through an ng server: offer, answer, delete, one after another in each call, many calls in
// flight. One thread: a few UDP sockets and poll(). A reply that does not come within a second is asked for again under
// the same cookie (as Kamailio does), and after four times the call has failed.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "bench/load/histogram.hpp"
#include "bench/ng/request.hpp"

namespace tandem::ngload {
namespace {

struct options {
    std::string server = "127.0.0.1";
    std::uint16_t port = 2223;
    unsigned sockets = 8, outstanding = 32;
    std::uint64_t calls = 0; // 0: as many as fit into the time
    double seconds = 5, warm_up = 0.5;
    double rate = 0; // calls a second; 0: as fast as `outstanding` allows
    bool stand = false;
    std::uint64_t first = 1;
    phones who;
};

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr unsigned most_tries = 5;

std::uint64_t now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * second_ns + static_cast<std::uint64_t>(t.tv_nsec);
}

// One call on its way; its cookie names the slot and counts its requests.
struct slot {
    bool busy = false;
    step at = step::offer;
    std::uint64_t call = 0, counter = 0;
    std::uint64_t begun_ns = 0; // of the call
    std::uint64_t sent_ns = 0;  // of the request, first try
    std::uint64_t due_ns = 0;   // of the next try
    unsigned tries = 0;
    std::string datagram;
    std::string crypto;
};

struct results {
    std::uint64_t calls = 0, failed = 0, retries = 0, strays = 0;
    std::array<load::histogram, 3> latency; // by step
    load::histogram whole;
    std::map<std::string, std::uint64_t> reasons;
};

class driver {
public:
    explicit driver(options what) : options_(std::move(what)), slots_(options_.outstanding), next_(options_.first) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(options_.port);
        if (::inet_pton(AF_INET, options_.server.c_str(), &to.sin_addr) != 1)
            throw std::runtime_error(options_.server + " is no IPv4 address");
        for (unsigned i = 0; i < options_.sockets; ++i) {
            const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0)
                throw std::runtime_error(fmt::format("no socket: {}", std::strerror(errno)));
            polled_.push_back({fd, POLLIN, 0});
        }
        for (unsigned i = 0; i < slots_.size(); ++i)
            free_.push_back(i);
    }
    ~driver() {
        for (const auto& p : polled_)
            ::close(p.fd);
    }
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;

    results run() {
        const auto begin = now_ns();
        counting_from_ = begin + (options_.calls != 0 ? 0 : to_ns(options_.warm_up));
        const auto end = options_.calls != 0 ? ~std::uint64_t{0} : counting_from_ + to_ns(options_.seconds);
        auto now = begin;
        while (now < end || free_.size() < slots_.size()) {
            if (now < end && (options_.calls == 0 || next_ - options_.first < options_.calls))
                begin_calls(now, begin);
            else if (free_.size() == slots_.size())
                break;
            if (now >= counting_from_ && now < end)
                ended_ns_ = now;
            wait(now);
            now = now_ns();
            retry(now);
        }
        seconds_ = static_cast<double>(ended_ns_ - std::min(ended_ns_, counting_from_)) / 1e9;
        return std::move(seen_);
    }
    [[nodiscard]] double seconds() const noexcept { return seconds_; }
    [[nodiscard]] std::uint64_t next() const noexcept { return next_; }

private:
    static std::uint64_t to_ns(double s) { return static_cast<std::uint64_t>(s * 1e9); }

    void begin_calls(std::uint64_t now, std::uint64_t begin) {
        while (!free_.empty()) {
            if (options_.calls != 0 && next_ - options_.first >= options_.calls)
                return;
            std::uint64_t due = now;
            if (options_.rate > 0) {
                due = begin + to_ns(static_cast<double>(next_ - options_.first) / options_.rate);
                if (due > now)
                    return;
            }
            auto& s = slots_[free_.front()];
            const auto index = free_.front();
            free_.pop_front();
            s.busy = true;
            s.call = next_++;
            s.begun_ns = due; // a call that had to wait for a slot waited for the server
            s.crypto.clear();
            send(index, step::offer, now);
        }
    }

    void send(unsigned index, step what, std::uint64_t now) {
        auto& s = slots_[index];
        s.at = what;
        s.tries = 0;
        s.sent_ns = now;
        ++s.counter;
        s.datagram =
            fmt::format("{}_{}_{} ", ::getpid(), index, s.counter) + request_of(what, s.call, options_.who, s.crypto);
        try_again(index, now);
    }

    void try_again(unsigned index, std::uint64_t now) {
        auto& s = slots_[index];
        ++s.tries;
        s.due_ns = now + second_ns;
        (void)::send(polled_[index % polled_.size()].fd, s.datagram.data(), s.datagram.size(), 0);
    }

    void retry(std::uint64_t now) {
        if (now - looked_ns_ < second_ns / 20)
            return;
        looked_ns_ = now;
        for (unsigned i = 0; i < slots_.size(); ++i)
            if (auto& s = slots_[i]; s.busy && s.due_ns <= now) {
                if (s.tries >= most_tries) {
                    fail(i, "no reply");
                } else {
                    ++seen_.retries;
                    try_again(i, now);
                }
            }
    }

    void wait(std::uint64_t now) {
        int timeout = 50;
        if (options_.rate > 0 && !free_.empty())
            timeout = 1;
        (void)now;
        if (::poll(polled_.data(), polled_.size(), timeout) <= 0)
            return;
        for (auto& p : polled_)
            if ((p.revents & POLLIN) != 0)
                for (;;) {
                    const auto length = ::recv(p.fd, buffer_.data(), buffer_.size(), 0);
                    if (length <= 0)
                        break;
                    take({buffer_.data(), static_cast<std::size_t>(length)}, now_ns());
                }
    }

    void take(std::string_view datagram, std::uint64_t now) {
        int pid = 0;
        unsigned index = 0;
        unsigned long long counter = 0;
        const auto space = datagram.find(' ');
        const std::string cookie(datagram.substr(0, space));
        if (space == std::string_view::npos || std::sscanf(cookie.c_str(), "%d_%u_%llu", &pid, &index, &counter) != 3 ||
            index >= slots_.size() || !slots_[index].busy || slots_[index].counter != counter) {
            ++seen_.strays;
            return;
        }
        auto& s = slots_[index];
        const auto said = read_reply(s.at, datagram.substr(space + 1), options_.who);
        if (!said.ok) {
            fail(index, said.reason);
            return;
        }
        const bool counts = s.begun_ns >= counting_from_;
        if (counts)
            seen_.latency[static_cast<std::size_t>(s.at)].record(now - s.sent_ns);
        if (s.at == step::offer) {
            s.crypto = said.crypto;
            send(index, step::answer, now);
        } else if (s.at == step::answer && !options_.stand) {
            send(index, step::remove, now);
        } else {
            if (now >= counting_from_ && now <= counting_from_ + to_ns(options_.calls != 0 ? 1e9 : options_.seconds)) {
                ++seen_.calls;
                ended_ns_ = std::max(ended_ns_, now);
            }
            if (counts)
                seen_.whole.record(now - s.begun_ns);
            release(index);
        }
    }

    void fail(unsigned index, const std::string& why) {
        ++seen_.failed;
        ++seen_.reasons[why];
        release(index);
    }
    void release(unsigned index) {
        slots_[index].busy = false;
        free_.push_back(index);
    }

    options options_;
    std::vector<slot> slots_;
    std::deque<unsigned> free_;
    std::vector<pollfd> polled_;
    std::array<char, 65536> buffer_{};
    std::uint64_t next_, counting_from_ = 0, ended_ns_ = 0, looked_ns_ = 0;
    double seconds_ = 0;
    results seen_;
};

nlohmann::json to_json(const results& r, double seconds, std::uint64_t next) {
    const auto percentiles = [](const load::histogram& h) {
        const auto us = [&](double share) { return static_cast<double>(h.percentile(share)) / 1000; };
        return nlohmann::json{{"p50", us(0.5)}, {"p99", us(0.99)}, {"p99.9", us(0.999)}};
    };
    return {{"calls", r.calls},
            {"seconds", seconds},
            {"calls_per_s", seconds > 0 ? static_cast<double>(r.calls) / seconds : 0},
            {"failed", r.failed},
            {"retries", r.retries},
            {"strays", r.strays},
            {"reasons", r.reasons},
            {"next", next},
            {"latency_us",
             {{"offer", percentiles(r.latency[0])},
              {"answer", percentiles(r.latency[1])},
              {"delete", percentiles(r.latency[2])},
              {"call", percentiles(r.whole)}}}};
}

int run(int argc, char** argv) {
    options o;
    CLI::App app{"Calls through an ng server: offer, answer, delete, with SDP as Kamailio sends it."};
    app.add_option("--server", o.server, "IPv4 address (default 127.0.0.1)");
    app.add_option("--port", o.port, "UDP port (default 2223)");
    app.add_option("--sockets", o.sockets, "to send from (default 8)")->check(CLI::Range(1, 1024));
    app.add_option("--outstanding", o.outstanding, "calls in flight (default 32)")->check(CLI::Range(1, 65536));
    app.add_option("--seconds", o.seconds, "to count for, after --warm-up (default 5)");
    app.add_option("--warm-up", o.warm_up, "seconds before that (default 0.5)");
    app.add_option("--calls", o.calls, "make exactly so many, however long it takes");
    app.add_option("--rate", o.rate, "calls a second (default: as fast as they go)");
    app.add_option("--first", o.first, "number of the first call; `next` of an earlier run");
    app.add_flag("--stand", o.stand, "no delete: the calls stay");
    app.add_flag("--srtp", o.who.srtp, "the gateway offers SDES to the callee");
    app.add_flag("--metadata", o.who.metadata, "with caller and callee");
    app.add_option("--caller", o.who.caller, "address of the caller's media");
    app.add_option("--callee", o.who.callee, "address of the callee's media");
    CLI11_PARSE(app, argc, argv);
    driver d(o);
    const auto seen = d.run();
    fmt::print("{}\n", to_json(seen, d.seconds(), d.next()).dump());
    return EXIT_SUCCESS;
}

} // namespace
} // namespace tandem::ngload

int main(int argc, char** argv) {
    try {
        return tandem::ngload::run(argc, argv);
    } catch (const std::exception& wrong) {
        fmt::print(stderr, "tandem-ng-load: {}\n", wrong.what());
        return EXIT_FAILURE;
    }
}
