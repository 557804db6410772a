// SPDX-License-Identifier: Apache-2.0
// Frames in a file (write_log.hpp): a head, then mark, length, number, hash, bytes, each at a multiple of 8.
#include "controlplane/store/local/write_log.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::store {

namespace {

struct frame {
    std::uint32_t mark, length;
    std::uint64_t number, hash;
};

constexpr std::uint32_t frame_mark = 0x67'6e'68'63;
constexpr std::string_view head_text = "tandem changes ", head_whole = "tandem changes 1\n";
constexpr std::size_t ring_begin = 4096;                     // offset of the ring
constexpr std::size_t least_size = ring_begin + (60U << 10); // below that it is of no use
constexpr std::size_t piece = 256U << 10;                    // bytes read, or made, at once

// A piece of a file: it may be longer than what there is memory for.
class window {
public:
    explicit window(int file) : file_(file) {}
    // So many bytes from there; fewer at the file's end.
    std::string_view at(std::size_t offset, std::size_t length) {
        if (offset < begin_ || offset + length > begin_ + bytes_.size())
            fill(offset, std::max(length, piece));
        return std::string_view(bytes_).substr(offset - begin_, length);
    }

private:
    void fill(std::size_t offset, std::size_t length) {
        begin_ = offset;
        bytes_.resize(length);
        std::size_t have = 0;
        while (have < length) {
            const auto got = ::pread(file_, bytes_.data() + have, length - have, static_cast<off_t>(offset + have));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                break;
            have += static_cast<std::size_t>(got);
        }
        bytes_.resize(have);
    }
    int file_;
    std::size_t begin_ = 0;
    std::string bytes_;
};

std::size_t length_of(int file) {
    struct stat about {};
    return ::fstat(file, &about) == 0 ? static_cast<std::size_t>(about.st_size) : 0;
}

} // namespace

std::uint64_t log_hash(std::uint64_t seed, std::string_view bytes) {
    std::uint64_t sum = seed * 0x9e3779b97f4a7c15 + bytes.size();
    const auto add = [&sum](std::uint64_t word) {
        sum = (sum ^ word) * 0xff51afd7ed558ccd;
        sum ^= sum >> 32;
    };
    std::uint64_t word = 0;
    for (; bytes.size() >= sizeof word; bytes.remove_prefix(sizeof word)) {
        std::memcpy(&word, bytes.data(), sizeof word); // of a size that is known: one instruction
        add(word);
    }
    if (!bytes.empty()) {
        word = 0;
        std::memcpy(&word, bytes.data(), bytes.size());
        add(word);
    }
    return sum;
}

std::size_t write_log::framed(std::size_t bytes) noexcept {
    return (sizeof(frame) + bytes + 7) & ~std::size_t{7};
}

write_log::~write_log() {
    if (file_ >= 0)
        ::close(file_);
}

tl::expected<void, std::string> write_log::open(const std::string& path, std::uint64_t of, std::size_t size) {
    path_ = path;
    of_ = of;
    wanted_ = std::max(size, least_size);
    end_ = ring_begin;
    if (open_to_write())
        return check_head();
    if (errno == EROFS || errno == ENOSPC)
        file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file_ >= 0)
        return check_head();
    if (errno == ENOENT)
        return {}; // nothing to read, nowhere to write
    return tl::unexpected(
        fmt::format("{} cannot be opened: {}; check the directory's owner", path, std::strerror(errno)));
}

bool write_log::open_to_write() {
    const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return false;
    if (file_ >= 0)
        ::close(file_);
    file_ = file;
    writable_ = true;
    if (length_of(file_) >= least_size && take(length_of(file_)))
        size_ = length_of(file_);
    return true;
}

tl::expected<void, std::string> write_log::check_head() const {
    const std::string head(window(file_).at(0, head_whole.size()));
    if (head.starts_with(head_text) && head != head_whole)
        return tl::unexpected(fmt::format("{} was made by a newer tandem-controlplane (\"{}\"): run that one", path_,
                                          head.substr(0, head.find('\n'))));
    return {};
}

// What is not a head is one that was not written yet.
void write_log::write_head() {
    if (window(file_).at(0, head_whole.size()) != head_whole)
        (void)put(0, head_whole);
}

// All of it: a hole would be a write that can fail. Where the file system knows no fallocate, zeroes are written.
bool write_log::take(std::size_t size) {
    const auto before = length_of(file_);
    int result = 0;
    do
        result = ::fallocate(file_, 0, 0, static_cast<off_t>(size));
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return true;
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        const std::string zeroes(piece, '\0');
        auto at = before;
        for (std::size_t done = 1; at < size && done > 0; at += done)
            done = put(at, std::string_view(zeroes).substr(0, std::min(piece, size - at)));
        if (at >= size)
            return true;
    }
    (void)!::ftruncate(file_, static_cast<off_t>(before));
    return false;
}

void write_log::fit() {
    if (!writable_ && !open_to_write())
        return;
    if (live_.empty() && size_ > wanted_ && ::ftruncate(file_, static_cast<off_t>(wanted_)) == 0)
        size_ = wanted_;
    for (auto size = wanted_; size > size_ && size >= least_size; size /= 2)
        if (take(size)) {
            size_ = size;
            break;
        }
    if (size_ > 0)
        write_head();
}

std::vector<write_log::frame_at> write_log::scan(std::uint64_t after, std::size_t length) const {
    std::vector<frame_at> found;
    window in(file_);
    frame head{};
    for (auto at = ring_begin; at + sizeof head <= length;) {
        const auto bytes = in.at(at, sizeof head);
        if (bytes.size() < sizeof head)
            break;
        std::memcpy(&head, bytes.data(), sizeof head);
        if (head.mark != frame_mark || head.length > length - at - sizeof head ||
            log_hash(of_ ^ head.number, in.at(at + sizeof head, head.length)) != head.hash) {
            at += 8;
            continue;
        }
        if (head.number > after)
            found.push_back({head.number, at, framed(head.length)});
        at += framed(head.length);
    }
    std::ranges::stable_sort(found, {}, &frame_at::number);
    const auto again = std::ranges::unique(found, {}, &frame_at::number);
    found.erase(again.begin(), again.end());
    return found;
}

// One after the other, with one step back to the beginning at most.
bool write_log::in_ring() const {
    int back = 0;
    for (std::size_t i = 1; i < live_.size(); ++i)
        back += live_[i].offset < live_[i - 1].offset ? 1 : 0;
    return back == 0 || (back == 1 && end_ <= live_.front().offset);
}

std::size_t write_log::read(std::uint64_t after, const std::function<void(std::uint64_t, std::string_view)>& each) {
    if (file_ < 0)
        return 0;
    const auto found = scan(after, length_of(file_));
    if (found.empty())
        return 0;
    window in(file_);
    for (const auto& one : found) {
        frame head{};
        std::memcpy(&head, in.at(one.offset, sizeof head).data(), sizeof head);
        each(one.number, in.at(one.offset + sizeof head, head.length));
    }
    live_.assign(found.begin(), found.end());
    end_ = found.back().offset + found.back().length;
    if (!in_ring()) // of a power cut, which took the database back: nothing more until it is empty
        end_ = live_.front().offset;
    return found.back().number - after - found.size();
}

void write_log::add(std::uint64_t number, std::string_view change) {
    const frame head{frame_mark, static_cast<std::uint32_t>(change.size()), number, log_hash(of_ ^ number, change)};
    std::array<char, sizeof head> bytes{};
    std::memcpy(bytes.data(), &head, sizeof head);
    frames_.push_back({number, collected_.size(), framed(change.size())});
    collected_.append(bytes.data(), bytes.size());
    collected_.append(change);
    collected_.resize(frames_.back().offset + frames_.back().length);
}

// The oldest live frame is what the newest runs up to.
std::size_t write_log::place(std::size_t length) {
    if (live_.empty())
        end_ = ring_begin;
    const auto oldest = live_.empty() ? ring_begin : live_.front().offset;
    if (live_.empty() || end_ > oldest) {
        if (end_ + length <= size_)
            return end_;
        return !live_.empty() && ring_begin + length < oldest ? ring_begin : 0;
    }
    return end_ + length < oldest ? end_ : 0; // never up to it: that would look like an empty ring
}

std::size_t write_log::room() const noexcept {
    if (size_ == 0)
        return 0;
    if (live_.empty())
        return size_ - ring_begin;
    const auto oldest = live_.front().offset;
    return end_ > oldest ? (size_ - end_) + (oldest - ring_begin) : oldest - end_;
}

std::size_t write_log::put(std::size_t offset, std::string_view bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto wrote = ::pwrite(file_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            fault_ = wrote == 0 ? EIO : errno;
            break;
        }
        done += static_cast<std::size_t>(wrote);
    }
    return done;
}

// All at one place where they fit, else each where it does.
std::size_t write_log::write() {
    std::size_t written = 0;
    const std::string_view all = collected_;
    while (written < frames_.size()) {
        auto last = frames_.size();
        auto begin = frames_[written].offset;
        auto at = size_ == 0 ? 0 : place(all.size() - begin);
        if (at == 0) {
            last = written + 1;
            at = size_ == 0 ? 0 : place(frames_[written].length);
        }
        if (at == 0) {
            fault_ = ENOSPC;
            break;
        }
        const auto length = frames_[last - 1].offset + frames_[last - 1].length - begin;
        const auto done = put(at, all.substr(begin, length));
        for (; written < last && frames_[written].offset + frames_[written].length - begin <= done; ++written) {
            const auto& one = frames_[written];
            live_.push_back({one.number, at + one.offset - begin, one.length});
            end_ = live_.back().offset + live_.back().length;
        }
        if (done < length)
            break;
    }
    collected_.clear();
    frames_.clear();
    return written;
}

void write_log::done(std::uint64_t number) {
    while (!live_.empty() && live_.front().number <= number)
        live_.pop_front();
}

} // namespace tandem::store
