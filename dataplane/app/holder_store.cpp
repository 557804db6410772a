// SPDX-License-Identifier: Apache-2.0
// See holder_store.hpp. sd_listen_fds(3) and sd_pid_notify_with_fds(3) without the library.
#include "dataplane/app/holder_store.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sstream>
#include <unistd.h>

#include "dataplane/api/service_manager.hpp"

namespace tandem::holder {

namespace {

constexpr std::string_view prefix = "dataplane-";
constexpr int first_listen_fd = 3;

int number(std::string_view text) {
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

void add(std::vector<named>& to, std::string name, int fd) {
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
        to.push_back({std::move(name), descriptor(fd)});
}

const char* environment(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
}

} // namespace

std::vector<named> inherited(const std::string& handed) {
    std::vector<named> found;
    std::istringstream ours(handed);
    for (std::string item; std::getline(ours, item, ',');)
        if (const auto at = item.find('='); at != std::string::npos)
            add(found, item.substr(0, at), number(std::string_view(item).substr(at + 1)));
    if (number(environment("LISTEN_PID")) == getpid()) {
        std::istringstream names(environment("LISTEN_FDNAMES"));
        const int count = number(environment("LISTEN_FDS"));
        for (int i = 0; i < count; ++i) {
            std::string name;
            std::getline(names, name, ':');
            add(found, name, first_listen_fd + i);
        }
    }
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        unsetenv(name); // not for the data planes
    return found;
}

std::string name_of(pid_t dataplane) {
    return std::string(prefix) + std::to_string(dataplane);
}

pid_t pid_in(const std::string& name) {
    return name.starts_with(prefix) ? number(std::string_view(name).substr(prefix.size())) : 0;
}

void store(const std::string& name, int fd) {
    if (std::getenv("NOTIFY_SOCKET") == nullptr)
        return;
    if (!api::tell_service_manager(("FDSTORE=1\nFDNAME=" + name).c_str(), fd))
        say("the service manager does not keep %s: %s", name.c_str(), std::strerror(errno));
}

void forget(const std::string& name) {
    api::tell_service_manager(("FDSTOREREMOVE=1\nFDNAME=" + name).c_str());
}

void resume_as(const std::string& program, std::vector<std::string> argv,
               const std::vector<std::pair<std::string, int>>& descriptors) {
    std::string list;
    for (const auto& [name, fd] : descriptors) {
        list += (list.empty() ? "" : ",") + name + "=" + std::to_string(fd);
        fcntl(fd, F_SETFD, 0);
    }
    argv.insert(argv.begin() + 1, {"--resume", list});
    std::vector<char*> words;
    for (auto& word : argv)
        words.push_back(word.data());
    words.push_back(nullptr);
    execv(program.c_str(), words.data());
    say("%s: %s", program.c_str(), std::strerror(errno));
    for (const auto& [name, fd] : descriptors)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

} // namespace tandem::holder
