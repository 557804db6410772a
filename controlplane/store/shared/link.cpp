// SPDX-License-Identifier: Apache-2.0
// libpq without blocking: connecting, statements, COPY and notifications, each step by poll. Owner thread: the one that
// made the link.
#include "controlplane/store/shared/link.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace tandem::store {

using std::chrono::milliseconds;

namespace {
constexpr milliseconds glance{50}; // how often a waiting thread looks whether the other one gave the server up

std::int64_t whole_number(std::string_view text) {
    std::int64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

// COPY's text form: \t between columns, \\ \n \t and so on inside them.
void split_copy_line(std::string_view line, std::vector<std::string>& columns) {
    columns.assign(1, {});
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\t') {
            columns.emplace_back();
        } else if (line[i] != '\\' || i + 1 == line.size()) {
            columns.back() += line[i];
        } else {
            switch (const char c = line[++i]; c) {
            case 'n':
                columns.back() += '\n';
                break;
            case 't':
                columns.back() += '\t';
                break;
            case 'r':
                columns.back() += '\r';
                break;
            case 'b':
                columns.back() += '\b';
                break;
            case 'f':
                columns.back() += '\f';
                break;
            case 'v':
                columns.back() += '\v';
                break;
            default:
                columns.back() += c;
            }
        }
    }
}
} // namespace

std::string first_line(std::string_view text) {
    std::string line(text.substr(0, std::min<std::size_t>(text.find('\n'), 300)));
    std::erase_if(line, [](char c) { return static_cast<unsigned char>(c) < ' '; });
    return line;
}

interrupt::interrupt() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

interrupt::~interrupt() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

void interrupt::stop() noexcept {
    stopping_ = true;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(descriptor_, &one, sizeof one);
}

void interrupt::sleep(milliseconds time) const {
    pollfd wait{descriptor_, POLLIN, 0};
    ::poll(&wait, 1, static_cast<int>(time.count()));
    if (stopping())
        throw pg_stopped{};
}

std::int64_t pg_result::number(int row, int column) const {
    return whole_number(PQgetvalue(result_.get(), row, column));
}

std::size_t pg_result::affected() const {
    return static_cast<std::size_t>(whole_number(PQcmdTuples(result_.get())));
}

std::string pg_link::words() const {
    auto text = link_ ? first_line(PQerrorMessage(link_.get())) : std::string();
    return text.empty() ? "no reason given" : text;
}

void pg_link::lose(const std::string& why) {
    close();
    throw pg_error(why);
}

bool pg_link::ready(short events, clock::time_point until) {
    for (;;) {
        if (ends_.stopping())
            throw pg_stopped{};
        if (heeds_ && ends_.away)
            lose("the server does not answer");
        const auto left = std::chrono::ceil<milliseconds>(until - clock::now());
        if (left.count() <= 0)
            return false;
        pollfd wait[2] = {{PQsocket(link_.get()), events, 0}, {ends_.descriptor(), POLLIN, 0}};
        const int count = ::poll(wait, 2, static_cast<int>(std::min(left, heeds_ ? glance : left).count()));
        if (count < 0 && errno != EINTR)
            lose(fmt::format("poll: {}", std::strerror(errno)));
        if (count > 0 && wait[0].revents != 0)
            return true;
    }
}

std::string rotated(std::string_view list, unsigned by) {
    const auto count = static_cast<unsigned>(std::ranges::count(list, ',')) + 1;
    if (count == 1)
        return {};
    std::size_t begin = 0;
    for (by %= count; by > 0; --by)
        begin = list.find(',', begin) + 1;
    auto text = std::string(list.substr(begin));
    if (begin > 0)
        text += ',' + std::string(list.substr(0, begin - 1));
    return text;
}

void pg_link::connect(const std::string& conninfo, const std::string& name, milliseconds limit, unsigned first) {
    const auto until = clock::now() + limit;
    std::string hosts[3];
    const char* const names[3] = {"host", "hostaddr", "port"};
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> given(PQconninfoParse(conninfo.c_str(), nullptr),
                                                                             PQconninfoFree);
    for (const auto* one = given.get(); one != nullptr && one->keyword != nullptr; ++one)
        for (std::size_t i = 0; i < 3; ++i)
            if (one->val != nullptr && std::string_view(one->keyword) == names[i])
                hosts[i] = rotated(one->val, first);
    // dbname is taken for a whole conninfo; what is empty counts as not given
    const char* const keys[] = {"dbname",          names[0], names[1], names[2], "fallback_application_name",
                                "client_encoding", nullptr};
    const char* const values[] = {conninfo.c_str(), hosts[0].c_str(), hosts[1].c_str(), hosts[2].c_str(),
                                  name.c_str(),     "UTF8",           nullptr};
    link_.reset(PQconnectStartParams(keys, values, 1));
    if (!link_ || PQstatus(link_.get()) == CONNECTION_BAD)
        lose(words());
    for (auto next = PGRES_POLLING_WRITING; next != PGRES_POLLING_OK; next = PQconnectPoll(link_.get())) {
        if (next == PGRES_POLLING_FAILED)
            lose(words());
        if (!ready(next == PGRES_POLLING_READING ? POLLIN : POLLOUT, until))
            lose(fmt::format("no connection within {} ms", limit.count()));
    }
    if (PQsetnonblocking(link_.get(), 1) != 0)
        lose(words());
    PQsetNoticeProcessor(
        link_.get(), [](void*, const char*) {}, nullptr);
}

void pg_link::send_all(clock::time_point until) {
    for (;;) {
        const int left = PQflush(link_.get());
        if (left == 0)
            return;
        if (left < 0)
            lose(words());
        if (!ready(POLLIN | POLLOUT, until))
            lose("the server takes nothing");
        if (PQconsumeInput(link_.get()) == 0)
            lose(words());
        until = clock::now() + quiet_;
    }
}

void pg_link::await_result() {
    while (PQisBusy(link_.get()) != 0) {
        if (!ready(POLLIN, clock::now() + quiet_))
            lose(fmt::format("no answer within {} ms", quiet_.count()));
        if (PQconsumeInput(link_.get()) == 0)
            lose(words());
    }
}

// The last of a statement's results; the first error counts.
pg_result pg_link::last_result() {
    pg_result last(nullptr);
    std::unique_ptr<pg_error> wrong;
    for (;;) {
        await_result();
        pg_result next(PQgetResult(link_.get()));
        if (next.get() == nullptr)
            break;
        const auto status = PQresultStatus(next.get());
        if (status == PGRES_COPY_OUT)
            return next; // the rows come now
        if (status == PGRES_FATAL_ERROR && !wrong) {
            const char* state = PQresultErrorField(next.get(), PG_DIAG_SQLSTATE);
            const char* said = PQresultErrorField(next.get(), PG_DIAG_MESSAGE_PRIMARY);
            wrong = std::make_unique<pg_error>(first_line(said != nullptr ? said : PQresultErrorMessage(next.get())),
                                               state != nullptr ? state : "");
        }
        last = std::move(next);
    }
    if (PQstatus(link_.get()) == CONNECTION_BAD)
        lose(wrong ? wrong->what() : words());
    if (wrong)
        throw pg_error(*wrong);
    return last;
}

pg_result pg_link::send(const char* sql, int count, const char* const* values) {
    if (!link_)
        throw pg_error("there is no connection");
    if (PQsendQueryParams(link_.get(), sql, count, nullptr, values, nullptr, nullptr, 0) == 0)
        lose(words());
    send_all(clock::now() + quiet_);
    return last_result();
}

pg_result pg_link::run(const char* sql, const std::vector<std::string>& parameters) {
    std::vector<const char*> values;
    values.reserve(parameters.size());
    for (const auto& value : parameters)
        values.push_back(value.c_str());
    return send(sql, static_cast<int>(values.size()), values.data());
}

pg_result pg_link::run(const char* sql, std::initializer_list<std::string_view> parameters) {
    return run(sql, std::vector<std::string>(parameters.begin(), parameters.end()));
}

void pg_link::script(const std::string& statements) {
    if (PQsendQuery(link_.get(), statements.c_str()) == 0)
        lose(words());
    send_all(clock::now() + quiet_);
    last_result();
}

void pg_link::copy_out(const char* sql, const std::function<void(copy_row&)>& row) {
    const auto begun = send(sql, 0, nullptr);
    if (PQresultStatus(begun.get()) != PGRES_COPY_OUT)
        throw pg_error("the server answered a COPY with something else", "XX000");
    copy_row columns;
    for (;;) {
        char* line = nullptr;
        const int size = PQgetCopyData(link_.get(), &line, 1);
        if (size > 0) {
            const std::unique_ptr<char, decltype(&PQfreemem)> owned(line, PQfreemem);
            split_copy_line({line, static_cast<std::size_t>(line[size - 1] == '\n' ? size - 1 : size)}, columns);
            row(columns);
        } else if (size == 0) {
            if (!ready(POLLIN, clock::now() + quiet_))
                lose(fmt::format("no answer within {} ms", quiet_.count()));
            if (PQconsumeInput(link_.get()) == 0)
                lose(words());
        } else {
            last_result(); // throws what ended the COPY early
            return;
        }
    }
}

std::vector<notification> pg_link::listen(milliseconds time) {
    if (!link_)
        throw pg_error("there is no connection");
    std::vector<notification> heard;
    const auto take = [&] {
        while (PGnotify* one = PQnotifies(link_.get())) {
            heard.push_back({one->relname, one->extra});
            PQfreemem(one);
        }
    };
    take(); // what came with an answer
    if (heard.empty() && ready(POLLIN, clock::now() + time)) {
        if (PQconsumeInput(link_.get()) == 0)
            lose(words());
        take();
    }
    return heard;
}

} // namespace tandem::store
