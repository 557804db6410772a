// SPDX-License-Identifier: Apache-2.0
// Two clocks (moment.hpp). Any thread.
#include "controlplane/protocol/moment.hpp"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <string>

namespace tandem::protocol {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds slewed{2000};

milliseconds by_wall(const moment& from, const moment& to) noexcept {
    return std::chrono::duration_cast<milliseconds>(to.wall - from.wall);
}
bool one_boot(const moment& from, const moment& to) noexcept {
    return from.boot != 0 && from.boot == to.boot && from.up.count() > 0 && to.up.count() > 0;
}

std::uint32_t read_boot() noexcept {
    std::uint32_t hash = 2166136261U; // FNV-1a: two starts of one machine differ in it, that is all
    try {
        std::ifstream file("/proc/sys/kernel/random/boot_id");
        std::string id;
        file >> id;
        for (const char c : id)
            hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
        return id.empty() ? 0 : std::max(hash, 1U);
    } catch (...) {
        return 0;
    }
}

} // namespace

std::uint32_t this_boot() noexcept {
    static const std::uint32_t boot = read_boot();
    return boot;
}

moment moment::now() noexcept {
    timespec up{};
    ::clock_gettime(CLOCK_BOOTTIME, &up);
    return {std::chrono::system_clock::now(), milliseconds(up.tv_sec * 1000 + up.tv_nsec / 1'000'000), this_boot()};
}

bool earlier(const moment& one, const moment& other) noexcept {
    return one_boot(one, other) ? one.up < other.up : one.wall < other.wall;
}

milliseconds between(const moment& from, const moment& to) noexcept {
    return std::max(one_boot(from, to) ? to.up - from.up : by_wall(from, to), milliseconds::zero());
}

milliseconds clock_set(const moment& from, const moment& to) noexcept {
    if (!one_boot(from, to) || !from.was())
        return {};
    const auto set = by_wall(from, to) - (to.up - from.up);
    return set > -slewed && set < slewed ? milliseconds::zero() : set;
}

} // namespace tandem::protocol
