// SPDX-License-Identifier: Apache-2.0
// A file in front of the database: changes are appended to it with one write() before the answer to the SIP proxy goes
// out, and go into SQLite a moment later, many in one transaction. A write() costs microseconds, a transaction twenty
// times that; both outlive a killed process. Changes are numbered; the database keeps the number of the last one that
// is in it, and the next process puts in what lies behind that. Used again from its start when all of it is in.
// Private to this room. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace tandem::records {

class write_log {
public:
    write_log() = default;
    ~write_log();
    write_log(const write_log&) = delete;
    write_log& operator=(const write_log&) = delete;

    // `of`: the database's own number; frames of another database's log are not read. The error is a sentence.
    [[nodiscard]] tl::expected<void, std::string> open(const std::string& path, std::uint64_t of);
    [[nodiscard]] bool is_open() const noexcept { return file_ >= 0; }

    // The changes of an earlier process, oldest first.
    void read(const std::function<void(std::uint64_t number, std::string_view change)>& each) const;

    // Numbers rise by one. Collected until write().
    void add(std::uint64_t number, std::string_view change);
    // False where the disk refused: what was collected is not in the file.
    [[nodiscard]] bool write();
    [[nodiscard]] int fault() const noexcept { return fault_; } // errno of the last write() that failed

    // All of it is in the database.
    void restart() noexcept { end_ = 0; }
    void empty(); // likewise, and gives its space back

private:
    int file_ = -1, fault_ = 0;
    std::uint64_t of_ = 0;
    std::int64_t end_ = 0;
    std::string collected_;
};

} // namespace tandem::records
