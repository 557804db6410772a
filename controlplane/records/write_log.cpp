// SPDX-License-Identifier: Apache-2.0
// Frames in a file (write_log.hpp): length, number, hash, bytes. What does not fit the hash or the order ends it: the
// rest of an earlier use, or a write that the end of the process cut short, of which nobody was told.
#include "controlplane/records/write_log.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::records {

namespace {

struct frame {
    std::uint64_t length, number, hash;
};

// Tells a whole frame from a torn one; no defence against anybody.
std::uint64_t hash_of(std::uint64_t seed, std::string_view bytes) {
    std::uint64_t sum = seed * 0x9e3779b97f4a7c15 + bytes.size();
    while (!bytes.empty()) {
        std::uint64_t word = 0;
        const auto take = std::min(sizeof word, bytes.size());
        std::memcpy(&word, bytes.data(), take);
        sum = (sum ^ word) * 0xff51afd7ed558ccd;
        sum ^= sum >> 32;
        bytes.remove_prefix(take);
    }
    return sum;
}

} // namespace

write_log::~write_log() {
    if (file_ >= 0)
        ::close(file_);
}

tl::expected<void, std::string> write_log::open(const std::string& path, std::uint64_t of) {
    of_ = of;
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file_ < 0)
        return tl::unexpected(fmt::format("{} cannot be opened: {}; check the directory's owner and its room", path,
                                          std::strerror(errno)));
    return {};
}

void write_log::read(const std::function<void(std::uint64_t, std::string_view)>& each) const {
    struct stat about {};
    if (file_ < 0 || ::fstat(file_, &about) != 0)
        return;
    std::string all(static_cast<std::size_t>(about.st_size), '\0');
    std::size_t have = 0;
    while (have < all.size()) {
        const auto got = ::pread(file_, all.data() + have, all.size() - have, static_cast<off_t>(have));
        if (got <= 0)
            break;
        have += static_cast<std::size_t>(got);
    }
    std::string_view rest(all.data(), have);
    std::uint64_t expected = 0;
    frame head{};
    while (rest.size() >= sizeof head) {
        std::memcpy(&head, rest.data(), sizeof head);
        rest.remove_prefix(sizeof head);
        if (head.length > rest.size() || (expected != 0 && head.number != expected))
            return;
        const auto bytes = rest.substr(0, head.length);
        if (hash_of(of_ ^ head.number, bytes) != head.hash)
            return;
        each(head.number, bytes);
        rest.remove_prefix(head.length);
        expected = head.number + 1;
    }
}

void write_log::add(std::uint64_t number, std::string_view change) {
    const frame head{change.size(), number, hash_of(of_ ^ number, change)};
    std::array<char, sizeof head> bytes{};
    std::memcpy(bytes.data(), &head, sizeof head);
    collected_.append(bytes.data(), bytes.size());
    collected_.append(change);
}

bool write_log::write() {
    std::size_t done = 0;
    while (done < collected_.size()) {
        const auto put =
            ::pwrite(file_, collected_.data() + done, collected_.size() - done, end_ + static_cast<off_t>(done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            fault_ = put == 0 ? ENOSPC : errno;
            collected_.clear();
            return false; // the frames that got there whole are overwritten by the next
        }
        done += static_cast<std::size_t>(put);
    }
    end_ += static_cast<std::int64_t>(done);
    collected_.clear();
    return true;
}

void write_log::empty() {
    restart();
    if (file_ >= 0 && ::ftruncate(file_, 0) != 0)
        fault_ = errno;
}

} // namespace tandem::records
