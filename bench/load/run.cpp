// SPDX-License-Identifier: Apache-2.0
// See run.hpp.
#include "bench/load/run.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <unistd.h>

#include <fmt/format.h>

#include "bench/load/blast.hpp"
#include "bench/load/socket.hpp"

namespace tandem::load {

namespace {

constexpr std::size_t prepared_limit = 4ull << 30;

// A burst of datagrams for sendmmsg or recvmmsg.
struct batch {
    batch() {
        for (unsigned i = 0; i < max_burst; ++i) {
            payload(i) = {bytes[i].data(), max_packet};
            messages[i].msg_hdr.msg_iov = &payload(i);
            messages[i].msg_hdr.msg_iovlen = 1;
        }
    }
    std::array<std::array<std::uint8_t, max_packet>, max_burst> bytes;
    iovec& payload(unsigned i) noexcept { return parts[2 * i + 1]; } // the part before it is for a frame's headers
    std::array<iovec, 2 * max_burst> parts{};
    std::array<mmsghdr, max_burst> messages{};
};

// When packet number n is due.
class pace {
public:
    pace(const options& given, std::uint64_t begin) : rate_(given.flat_out ? 0 : given.rate), begin_(begin) {}
    [[nodiscard]] std::uint64_t due(std::uint64_t now, std::uint64_t sent, unsigned most) const noexcept {
        if (rate_ == 0)
            return most;
        const auto reached = static_cast<std::uint64_t>(static_cast<double>(now - begin_) * 1e-9 * rate_) + 1;
        return reached > sent ? std::min<std::uint64_t>(reached - sent, most) : 0;
    }

private:
    double rate_;
    std::uint64_t begin_;
};

void nap(unsigned us) noexcept {
    const timespec t{0, static_cast<long>(us) * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr);
}

class runner {
public:
    runner(const options& given, traffic& t) : given_(given), t_(t), to_(parse_range(given.to, "--to")) {
        open_sockets();
        for (unsigned i = 0; i < to_.ports.size(); ++i)
            destinations_.push_back(to_.at(i));
        if (!given.interface.empty()) {
            frames_ = open_frame_socket(given.interface, given.from_netns);
            headers_.resize(given.streams);
            if (given.xdp)
                start_blaster();
        }
        if (given.prepare)
            prepare();
    }

    outcome run() {
        outcome o;
        const std::uint64_t begin = now_ns(), end = begin + static_cast<std::uint64_t>(given_.seconds * 1e9);
        const pace steps(given_, begin);
        std::uint64_t last = begin;
        if (blaster_)
            blaster_->start(begin, end, given_.flat_out ? 0 : given_.rate);
        for (std::uint64_t now = begin; now < end; now = now_ns()) {
            const auto due = blaster_ ? 0 : static_cast<unsigned>(steps.due(now, next_, given_.burst));
            if (due != 0) {
                if (!send_burst(due))
                    break; // all that was prepared is sent
                last = now_ns();
            }
            const bool came = receive();
            if (due == 0 && !came && !given_.spin)
                nap(50);
        }
        if (blaster_) {
            next_ = t_.total.sent = blaster_->finish();
            last = end;
        }
        o.seconds = static_cast<double>(last - begin) * 1e-9;
        if (!given_.flat_out)
            o.late =
                static_cast<std::uint64_t>(std::max(0.0, given_.rate * given_.seconds - static_cast<double>(next_)));
        listen_on();
        for (const auto& s : receivers_)
            o.socket_drops += s.dropped();
        return o;
    }

private:
    void open_sockets() {
        const port_range from = parse_range(given_.from, "--from");
        for (unsigned i = 0; i < from.ports.size(); ++i)
            senders_.emplace_back(from.at(i), from.length, given_.from_netns);
        if (given_.no_receive)
            return;
        if (given_.receive.empty())
            return; // symmetric: what we send from is what we hear on
        const port_range receive = parse_range(given_.receive, "--receive");
        for (unsigned i = 0; i < receive.ports.size(); ++i)
            receivers_.emplace_back(receive.at(i), receive.length,
                                    given_.receive_netns.empty() ? given_.from_netns : given_.receive_netns);
    }

    void start_blaster() {
        std::array<std::uint8_t, max_packet> packet{};
        const std::size_t length = t_.make(0, packet.data(), 0);
        const port_range from = parse_range(given_.from, "--from");
        const frame_header head =
            make_frame_header(frames_.mac, parse_mac(given_.to_mac), from.at(0), destinations_[0], length);
        std::vector<std::uint8_t> frame(head.begin(), head.end());
        frame.insert(frame.end(), packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(length));
        if (given_.first_byte >= 0)
            frame[head.size()] = static_cast<std::uint8_t>(given_.first_byte);
        blaster_ = std::make_unique<blaster>(given_, frame, to_.ports, frames_.index);
    }

    void prepare() {
        const double packets = std::max(given_.rate, 1.0) * given_.seconds + given_.burst;
        const std::size_t each = header_bytes + given_.payload + max_tag;
        if (packets * static_cast<double>(each) > static_cast<double>(prepared_limit))
            throw usage_error(fmt::format("--prepare: {:.0f} packets of {} bytes are more than {} GiB", packets, each,
                                          prepared_limit >> 30));
        prepared_.resize(static_cast<std::size_t>(packets) * each);
        std::array<std::uint8_t, max_packet> one{};
        for (std::uint64_t n = 0; n < static_cast<std::uint64_t>(packets); ++n) {
            prepared_length_ = t_.make(n, one.data(), 0);
            std::copy_n(one.data(), each, prepared_.data() + n * each);
        }
        prepared_each_ = each;
    }

    bool send_burst(unsigned want) {
        if (!prepared_.empty() && (next_ + want) * prepared_each_ > prepared_.size())
            return false;
        const std::uint64_t now = now_ns();
        for (unsigned i = 0; i < want; ++i) {
            const std::uint64_t n = next_ + i;
            auto& m = out_.messages[i].msg_hdr;
            if (prepared_.empty()) {
                out_.payload(i) = {out_.bytes[i].data(), t_.make(n, out_.bytes[i].data(), now)};
            } else {
                out_.payload(i) = {prepared_.data() + n * prepared_each_, prepared_length_};
            }
            t_.left(n, now);
            if (frames_.fd >= 0) {
                put_frame(i, n);
                continue;
            }
            m.msg_name = &destinations_[n % given_.streams % destinations_.size()];
            m.msg_namelen = to_.length;
        }
        if (frames_.fd >= 0)
            push(frames_.fd, 0, want);
        else if (senders_.size() == 1)
            push(senders_[0].fd(), 0, want);
        else
            for (unsigned i = 0; i < want; ++i)
                push(senders_[(next_ + i) % given_.streams % senders_.size()].fd(), i, 1);
        next_ += want;
        return true;
    }

    void put_frame(unsigned i, std::uint64_t n) {
        const std::size_t stream = n % given_.streams, length = out_.payload(i).iov_len;
        frame_header& head = headers_[stream];
        if (head[12] == 0) { // of each stream once: the length is always the same
            const port_range from = parse_range(given_.from, "--from");
            head = make_frame_header(frames_.mac, parse_mac(given_.to_mac), from.at(static_cast<unsigned>(stream)),
                                     destinations_[stream % destinations_.size()], length);
        }
        out_.parts[2 * i] = {head.data(), head.size()};
        out_.messages[i].msg_hdr.msg_iov = &out_.parts[2 * i];
        out_.messages[i].msg_hdr.msg_iovlen = 2;
    }

    void push(int fd, unsigned first, unsigned count) {
        while (count != 0) {
            const int sent = sendmmsg(fd, &out_.messages[first], count, 0);
            if (sent > 0) {
                t_.total.sent += static_cast<unsigned>(sent);
                first += static_cast<unsigned>(sent);
                count -= static_cast<unsigned>(sent);
            } else if (errno == EAGAIN) {
                receive();
            } else {
                ++t_.total.send_errors; // this one; ICMP errors and full queues are told here
                ++first;
                --count;
            }
        }
    }

    bool receive() {
        bool any = false;
        if (given_.no_receive)
            return false;
        for (const auto& s : listeners())
            any = drain(s.fd()) || any;
        return any;
    }
    const std::vector<udp_socket>& listeners() const noexcept { return receivers_.empty() ? senders_ : receivers_; }

    bool drain(int fd) {
        bool any = false;
        for (unsigned round = 0; round < 4; ++round) {
            const int got = recvmmsg(fd, in_.messages.data(), max_burst, MSG_DONTWAIT, nullptr);
            if (got <= 0)
                break;
            any = true;
            const std::uint64_t now = now_ns();
            for (int i = 0; i < got; ++i) {
                const auto at = static_cast<std::size_t>(i);
                t_.take({in_.bytes[at].data(), in_.messages[at].msg_len}, now);
            }
            if (static_cast<unsigned>(got) < max_burst)
                break;
        }
        return any;
    }

    void listen_on() {
        if (given_.no_receive)
            return;
        const auto wait = static_cast<std::uint64_t>(given_.linger * 1e9);
        for (std::uint64_t quiet = now_ns() + wait, now = 0; now < quiet && t_.total.received < t_.total.sent;
             now = now_ns()) {
            if (receive())
                quiet = now_ns() + wait;
            else
                nap(200);
        }
    }

    const options& given_;
    traffic& t_;
    port_range to_;
    std::vector<sockaddr_storage> destinations_;
    std::vector<udp_socket> senders_, receivers_; // with frames the senders only hold the address
    frame_socket frames_{-1, {}, 0};
    std::vector<frame_header> headers_;
    std::unique_ptr<blaster> blaster_;
    std::vector<std::uint8_t> prepared_;
    std::size_t prepared_each_ = 0, prepared_length_ = 0;
    std::uint64_t next_ = 0;
    batch out_, in_;
};

std::vector<std::vector<std::uint8_t>> read_frames(const std::string& path) {
    std::ifstream file(path);
    std::vector<std::vector<std::uint8_t>> frames;
    for (std::string line; std::getline(file, line);) {
        std::vector<std::uint8_t> frame;
        for (std::size_t i = 0; i + 1 < line.size(); i += 2)
            frame.push_back(static_cast<std::uint8_t>(std::stoul(line.substr(i, 2), nullptr, 16)));
        if (!frame.empty())
            frames.push_back(std::move(frame));
    }
    if (frames.empty())
        throw failure(fmt::format("--frames {}: no frames; write one a line, in hex", path));
    return frames;
}

} // namespace

outcome run_streams(const options& given, traffic& t) {
    return std::make_unique<runner>(given, t)->run();
}

outcome run_frames(const options& given, counts& total) {
    auto frames = read_frames(given.frames);
    const int fd = open_frame_socket(given.interface, given.from_netns).fd;
    std::vector<iovec> parts(given.burst);
    std::vector<mmsghdr> messages(given.burst);
    const std::uint64_t begin = now_ns(), end = begin + static_cast<std::uint64_t>(given.seconds * 1e9);
    const pace steps(given, begin);
    std::uint64_t next = 0, now = begin;
    for (; now < end; now = now_ns()) {
        const auto due = static_cast<unsigned>(steps.due(now, next, given.burst));
        for (unsigned i = 0; i < due; ++i) {
            auto& frame = frames[(next + i) % frames.size()];
            parts[i] = {frame.data(), frame.size()};
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        const int sent = due == 0 ? 0 : sendmmsg(fd, messages.data(), due, 0);
        if (due == 0)
            nap(50);
        else if (sent > 0)
            next += static_cast<unsigned>(sent);
        else
            ++total.send_errors;
    }
    total.sent = next;
    close(fd);
    outcome o;
    o.seconds = static_cast<double>(now - begin) * 1e-9;
    return o;
}

} // namespace tandem::load
