// SPDX-License-Identifier: Apache-2.0
// The ops socket's client side.
#include "tools/tandemctl/ops_client.hpp"

#include <cerrno>
#include <cstring>
#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/descriptor.hpp"
#include "controlplane/app/ops_protocol.hpp"

namespace tandem::ctl {
namespace {

using clock_type = std::chrono::steady_clock;

// Waits until the socket is ready for `events`, within the limit.
bool ready(int fd, short events, clock_type::time_point until) {
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock_type::now()).count();
        if (left <= 0)
            return false;
        pollfd p{fd, events, 0};
        const int n = poll(&p, 1, static_cast<int>(left));
        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR)
            return false;
    }
}

result<json> parse_answer(const std::string& line) {
    const auto answer = json::parse(line, nullptr, false);
    if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean())
        return tl::unexpected(error{
            failure::failed,
            "the control plane's answer is not understood; are tandemctl and tandem-controlplane of one version?"});
    if (answer["ok"].get<bool>())
        return answer.value("result", json::object());
    const auto kind = answer.value("code", std::string("failed")) == "usage" ? failure::usage : failure::failed;
    return tl::unexpected(
        error{kind, answer.value("error", std::string("refused without a reason; see the control plane's log"))});
}

} // namespace

ops_client::ops_client(std::string run_dir, std::chrono::milliseconds limit)
    : path_(std::move(run_dir) + "/" + std::string(ops::socket_name)), limit_(limit) {}

result<json> ops_client::request(const std::string& verb, const json& arguments) const {
    const json request{{"version", ops::protocol_version}, {"verb", verb}, {"args", arguments}};
    return send_line(request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
}

result<json> ops_client::send_line(const std::string& line) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof address.sun_path)
        return tl::unexpected(
            error{failure::usage,
                  fmt::format("{}: the path is too long for a UNIX socket; give a shorter --run-dir", path_)});
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    const descriptor s(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!s || connect(s.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        const int why = errno;
        if (why == EACCES || why == EPERM)
            return unreachable(
                fmt::format("{}: no permission; run tandemctl as root or as the control plane's user", path_));
        if (why == ENOENT)
            return unreachable(fmt::format(
                "{}: no such socket; is tandem-controlplane running, and is --run-dir its run_dir?", path_));
        if (why == ECONNREFUSED)
            return unreachable(fmt::format(
                "{}: nobody answers; tandem-controlplane is not running (systemctl status tandem-controlplane)",
                path_));
        return unreachable(fmt::format("{}: {}", path_, std::strerror(why)));
    }
    const auto until = clock_type::now() + limit_;
    for (std::size_t done = 0; done < line.size();) {
        const auto n = send(s.get(), line.data() + done, line.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            done += static_cast<std::size_t>(n);
        else if (errno != EAGAIN || !ready(s.get(), POLLOUT, until))
            return unreachable(fmt::format("{}: the control plane does not take the request; see its log", path_));
    }
    std::string answer;
    char buffer[16384];
    while (answer.empty() || answer.back() != '\n') { // one line, and nothing after it
        if (!ready(s.get(), POLLIN, until))
            return unreachable(
                fmt::format("{}: no answer within {} s; see the control plane's log", path_, limit_.count() / 1000));
        const auto n = recv(s.get(), buffer, sizeof buffer, 0);
        if (n <= 0)
            return unreachable(
                fmt::format("{}: the control plane closed the connection without an answer; see its log", path_));
        answer.append(buffer, static_cast<std::size_t>(n));
        if (answer.size() > ops::max_line * 16)
            return tl::unexpected(error{failure::failed, "the control plane's answer has no end"});
    }
    return parse_answer(answer.substr(0, answer.find('\n')));
}

} // namespace tandem::ctl
