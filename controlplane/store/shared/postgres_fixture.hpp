// SPDX-License-Identifier: Apache-2.0
// For tests: a throw-away PostgreSQL server on a local socket below /tmp, one for the whole program, ended with it.
// Skips with a reason where the server is not installed. Each test gets a database of its own.
#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <set>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace tandem::store {

class postgres_server {
public:
    static postgres_server& one() {
        static postgres_server server;
        return server;
    }
    postgres_server(const postgres_server&) = delete;
    postgres_server& operator=(const postgres_server&) = delete;
    ~postgres_server() {
        if (pid_ > 0)
            end(SIGINT);
        if (!dir_.empty())
            std::filesystem::remove_all(dir_);
    }
    [[nodiscard]] const std::string& why_not() const { return why_not_; }
    [[nodiscard]] std::string conninfo(const std::string& database = "postgres") const {
        return fmt::format("host={} user=tandem dbname={}", dir_, database);
    }
    void start() {
        pid_ = spawn({bin_ + "/postgres", "-D", dir_ + "/data", "-k", dir_, "-c", "listen_addresses=", "-c",
                      "fsync=off", "-c", "log_min_messages=fatal"});
        for (int i = 0; i < 300 && run({bin_ + "/pg_isready", "-q", "-h", dir_, "-U", "tandem"}) != 0; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    // SIGINT: fast shutdown; SIGQUIT: at once, as in a crash.
    void end(int number) {
        ::kill(pid_, number);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    // SIGSTOP or SIGCONT for the server and each of its processes.
    void signal_all(int number) const {
        std::set<pid_t> all{pid_};
        const auto path = fmt::format("/proc/{0}/task/{0}/children", pid_);
        if (std::FILE* file = std::fopen(path.c_str(), "r"); file != nullptr) {
            for (int child = 0; std::fscanf(file, "%d", &child) == 1;)
                all.insert(child);
            std::fclose(file);
        }
        for (const auto pid : all)
            ::kill(pid, number);
    }
    // The whole output of psql; a failure is a failed expectation.
    [[nodiscard]] std::string psql(const std::string& sql, const std::string& database = "postgres") const {
        const auto file = dir_ + "/psql.out";
        const int status = run({bin_ + "/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-o", file, "-d",
                                conninfo(database), "-c", sql});
        EXPECT_EQ(status, 0) << sql;
        std::string text;
        if (std::FILE* in = std::fopen(file.c_str(), "r"); in != nullptr) {
            for (int c = 0; (c = std::fgetc(in)) != EOF;)
                text += static_cast<char>(c);
            std::fclose(in);
        }
        while (!text.empty() && text.back() == '\n')
            text.pop_back();
        return text;
    }

private:
    std::string bin_, dir_, why_not_;
    uid_t user_ = 0;
    gid_t group_ = 0;
    pid_t pid_ = -1;

    postgres_server() {
        std::error_code none;
        for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", none))
            if (std::filesystem::exists(version.path() / "bin/initdb"))
                bin_ = version.path() / "bin";
        if (bin_.empty()) {
            why_not_ = "PostgreSQL's server is not installed: run tools/dev/install-deps";
            return;
        }
        char name[] = "/tmp/tandem-pg-XXXXXX";
        dir_ = ::mkdtemp(name);
        if (::geteuid() == 0) { // the server refuses root
            const auto* user = ::getpwnam("postgres") != nullptr ? ::getpwnam("postgres") : ::getpwnam("nobody");
            user_ = user->pw_uid;
            group_ = user->pw_gid;
            if (::chown(dir_.c_str(), user_, group_) != 0)
                why_not_ = "chown failed";
        }
        if (run({bin_ + "/initdb", "-D", dir_ + "/data", "-U", "tandem", "-A", "trust", "-E", "UTF8", "--locale=C",
                 "--no-sync"}) != 0)
            why_not_ = "initdb failed";
        if (why_not_.empty())
            start();
    }
    [[nodiscard]] pid_t spawn(const std::vector<std::string>& argv) const {
        std::vector<char*> words;
        for (const auto& word : argv)
            words.push_back(const_cast<char*>(word.c_str()));
        words.push_back(nullptr);
        const pid_t child = ::fork();
        if (child != 0)
            return child;
        if (group_ != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(group_) != 0 || ::setuid(user_) != 0))
            ::_exit(126);
        ::prctl(PR_SET_PDEATHSIG, SIGINT); // a change of the user would undo it
        if (::chdir("/") != 0 || std::freopen("/dev/null", "w", stdout) == nullptr)
            ::_exit(126);
        ::execv(words[0], words.data());
        ::_exit(127);
    }
    [[nodiscard]] int run(const std::vector<std::string>& argv) const {
        int status = -1;
        ::waitpid(spawn(argv), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
};

} // namespace tandem::store
