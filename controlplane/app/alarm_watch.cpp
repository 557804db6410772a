// SPDX-License-Identifier: Apache-2.0
// See alarm_watch.hpp. Owner thread: io_context.
#include "controlplane/app/alarm_watch.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace tandem::control {

namespace {

constexpr std::chrono::seconds slow_interval{5};
constexpr std::chrono::seconds dataplane_grace{3}; // so long after the start the data plane may be on its way

} // namespace

std::optional<std::chrono::system_clock::time_point> certificates_end(const std::string& file) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pem(std::fopen(file.c_str(), "re"), &std::fclose);
    if (!pem)
        return {};
    std::optional<std::chrono::system_clock::time_point> first;
    for (;;) {
        const std::unique_ptr<X509, decltype(&X509_free)> one(PEM_read_X509(pem.get(), nullptr, nullptr, nullptr),
                                                              &X509_free);
        std::tm until{};
        if (!one || ASN1_TIME_to_tm(X509_get0_notAfter(one.get()), &until) != 1)
            return first;
        const auto when = std::chrono::system_clock::from_time_t(::timegm(&until));
        first = std::min(first.value_or(when), when);
    }
}

alarm_watch::alarm_watch(const config& settings, dataplane_client::client& dataplane,
                         const dataplane_client::health_watch& health, media::manager& relay, alarm_board& board)
    : settings_(settings), dataplane_(dataplane), health_(health), relay_(relay), board_(board) {
    const auto& files = settings.tunnel.certificates;
    for (const auto* file : {&files.certificate, &files.ca}) // as TLS takes them now
        if (const auto until = file->empty() ? std::nullopt : certificates_end(*file))
            certificates_.push_back({*file, *until, false});
}

void alarm_watch::read_disks() {
    namespace fs = std::filesystem;
    disks_.clear();
    const auto folder = [](const std::string& file) { return fs::path(file).parent_path().string(); };
    for (auto directory : {folder(settings_.database), folder(settings_.master_key_file), settings_.run_dir}) {
        if (directory.empty())
            directory = ".";
        std::error_code error;
        const auto room = fs::space(directory, error);
        const disk_reading one{directory, error ? 0 : room.capacity, error ? 0 : room.available};
        const auto same = [&](const disk_reading& other) { return other.directory == one.directory; };
        if (std::ranges::none_of(disks_, same))
            disks_.push_back(one);
    }
}

void alarm_watch::read_certificates() {
    for (auto& one : certificates_)
        if (const auto now = certificates_end(one.file))
            one.renewed = *now > one.until;
}

void alarm_watch::count_restarts() {
    const auto now = std::chrono::steady_clock::now();
    if (const auto& hello = dataplane_.hello(); hello && hello->reply.started_ns != dataplane_started_ns_) {
        if (std::exchange(dataplane_started_ns_, hello->reply.started_ns) != 0)
            restarts_.push_back(now);
    }
    while (!restarts_.empty() && now - restarts_.front() > restarts_within)
        restarts_.pop_front();
}

readings alarm_watch::read() {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_slow_) {
        next_slow_ = now + slow_interval;
        read_disks();
        read_certificates();
    }
    count_restarts();
    readings seen;
    seen.now = std::chrono::system_clock::now();
    if (!health_.well() && now - born_ > dataplane_grace)
        seen.dataplane = health_.trouble();
    seen.restarts = restarts_.size();
    if (const auto& last = health_.last())
        for (const auto& part : last->parts)
            if (part.state == api::health_state::no_carrier)
                seen.carrier.push_back(dataplane_client::describe(part));
    seen.ports = relay_.port_rooms();
    seen.unknown_names = relay_.unknown_names();
    seen.flows = relay_.flow_rooms();
    seen.disks = disks_;
    seen.certificates = certificates_;
    return seen;
}

void alarm_watch::look() {
    const auto stand = judge(read(), [this](const char* name) { return board_.standing().contains(name); });
    for (const char* name : judged_alarms) {
        const auto found = stand.find(name);
        board_.set(name, found != stand.end(), found != stand.end() ? found->second : std::string());
    }
}

} // namespace tandem::control
