// SPDX-License-Identifier: Apache-2.0
// A file in front of the database: changes go into it with one write() before the answer to the SIP proxy goes out, and
// into SQLite a moment later, many in one transaction. A write() costs microseconds, a transaction twenty times that;
// both outlive a killed process. Its whole size is taken from the disk when it is made, and written in place: a disk
// that is full afterwards takes no change away. Changes are numbered; the database keeps the number of the last one
// that is in it, and the next process puts in the rest. A frame a change, with a hash of its own: what is damaged is
// left out and the rest goes on. Room is used again as the database takes its changes; the frames run in a ring.
// Private to this room. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

namespace tandem::store {

// Tells a whole frame from a torn one; no defence against anybody.
[[nodiscard]] std::uint64_t log_hash(std::uint64_t seed, std::string_view bytes);

class write_log {
public:
    write_log() = default;
    ~write_log();
    write_log(const write_log&) = delete;
    write_log& operator=(const write_log&) = delete;

    // `of`: the database's own number; frames of another database's log are not read. It takes as much of `size` as the
    // disk gives (see size()). On a disk that takes no writes at all it can be read and has no room. The error is a
    // sentence: it cannot be opened, or a newer program made it.
    [[nodiscard]] tl::expected<void, std::string> open(const std::string& path, std::uint64_t of, std::size_t size);

    // The changes of an earlier process behind number `after`, oldest first. How many between them are missing.
    std::size_t read(std::uint64_t after, const std::function<void(std::uint64_t, std::string_view)>& each);
    // Tries for what it has not: the file itself, the size that was asked for.
    void fit();

    // Numbers rise. Collected until write().
    void add(std::uint64_t number, std::string_view change);
    // How many of those collected are in the file now, from the first on; the others are not.
    [[nodiscard]] std::size_t write();
    [[nodiscard]] int fault() const noexcept { return fault_; } // errno of the last write(); ENOSPC: no room left in it

    void done(std::uint64_t number); // up to this one all are in the database

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t wanted() const noexcept { return wanted_; }
    [[nodiscard]] std::size_t room() const noexcept; // bytes for further frames
    // What a change of so many bytes takes.
    [[nodiscard]] static std::size_t framed(std::size_t bytes) noexcept;

private:
    struct frame_at {
        std::uint64_t number;
        std::size_t offset, length; // with head and padding
    };
    [[nodiscard]] tl::expected<void, std::string> check_head() const;
    void write_head();
    [[nodiscard]] bool open_to_write();
    [[nodiscard]] bool take(std::size_t size); // from the disk
    [[nodiscard]] std::vector<frame_at> scan(std::uint64_t after, std::size_t length) const;
    [[nodiscard]] bool in_ring() const;
    [[nodiscard]] std::size_t place(std::size_t length);                       // 0 = no room
    [[nodiscard]] std::size_t put(std::size_t offset, std::string_view bytes); // written

    std::string path_;
    int file_ = -1, fault_ = 0;
    bool writable_ = false;
    std::uint64_t of_ = 0;
    std::size_t size_ = 0, wanted_ = 0;
    std::size_t end_ = 0;       // of the newest frame
    std::deque<frame_at> live_; // not in the database, by number
    std::string collected_;
    std::vector<frame_at> frames_; // in collected_: offsets there
};

} // namespace tandem::store
