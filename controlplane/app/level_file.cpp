// SPDX-License-Identifier: Apache-2.0
// Levels: read again, checked, changed in their file. Owner thread: io_context.
#include "controlplane/app/level_file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <spdlog/spdlog.h>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/policy/config_file.hpp"

namespace tandem::control {

namespace {

tl::expected<std::string, std::string> text_of(const std::string& path) {
    std::ifstream file(path);
    if (!file)
        return tl::unexpected(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// The file is the old one or the new one, whatever dies; owner and mode stay.
tl::expected<void, std::string> replace_file(const std::string& path, const std::string& text) {
    const auto fresh = path + ".new";
    const auto wrong = [&](const char* what) {
        const auto why = fmt::format("{}: cannot be {}: {}; edit {} by hand and `tandemctl level reload`", fresh, what,
                                     std::strerror(errno), path);
        ::unlink(fresh.c_str());
        return tl::unexpected(why);
    };
    struct stat about {};
    if (::stat(path.c_str(), &about) != 0)
        return wrong("made");
    const int file =
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, about.st_mode & 07777);
    if (file < 0)
        return wrong("made");
    const auto written = ::write(file, text.data(), text.size());
    const bool fine = written == static_cast<ssize_t>(text.size()) && ::fchmod(file, about.st_mode & 07777) == 0 &&
                      (::fchown(file, about.st_uid, about.st_gid) == 0 || ::geteuid() != 0) && ::fsync(file) == 0;
    ::close(file);
    if (!fine)
        return wrong("written");
    if (::rename(fresh.c_str(), path.c_str()) != 0)
        return wrong("put in place");
    return {};
}

} // namespace

const std::string& level_file::path() const noexcept {
    return settings_.levels_file.empty() ? settings_.file : settings_.levels_file;
}

tl::expected<policy::config, std::string> level_file::read() const {
    if (!settings_.levels_file.empty())
        return load_levels(settings_);
    auto fresh = load_config(settings_.file);
    if (!fresh)
        return tl::unexpected(fresh.error());
    return std::move(fresh->policy);
}

tl::expected<void, std::string> level_file::reload(const std::string& who) {
    auto fresh = read();
    if (!fresh) {
        alarms_.raise(alarms::levels,
                      fmt::format("{} is refused, the levels before it stay in force: {}", path(), fresh.error()));
        return tl::unexpected(fresh.error());
    }
    alarms_.clear(alarms::levels);
    engine_.reconfigure(std::move(*fresh));
    spdlog::info("levels and policy of {} are in force for new calls; asked by {}", path(), who);
    return {};
}

tl::expected<policy::config, std::string> level_file::check(std::string_view text, const std::string& name) const {
    return policy::parse_config(text, name, {settings_.tunnel.lifetime});
}

tl::expected<void, std::string>
level_file::set(const std::string& name, const std::map<std::string, std::string>& values, const std::string& who) {
    if (settings_.levels_file.empty())
        return tl::unexpected(
            fmt::format("the levels stand in {} itself: edit it there and `tandemctl level reload`, or "
                        "name a file of their own: levels = \"/etc/tandem/levels.toml\"",
                        settings_.file));
    auto text = text_of(path());
    if (!text)
        return tl::unexpected(text.error());
    // Each key is checked with the whole; one that fits only after another is tried again after it.
    auto left = values;
    while (!left.empty()) {
        std::string refusal;
        const auto before = left.size();
        for (auto at = left.begin(); at != left.end();) {
            auto edited =
                policy::set_level_key(*text, path(), name, at->first, at->second, {settings_.tunnel.lifetime});
            if (edited) {
                text = std::move(*edited);
                at = left.erase(at);
            } else {
                if (refusal.empty())
                    refusal = edited.error();
                ++at;
            }
        }
        if (left.size() == before)
            return tl::unexpected(refusal);
    }
    if (auto done = replace_file(path(), *text); !done)
        return done;
    return reload(who);
}

} // namespace tandem::control
