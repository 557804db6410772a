// SPDX-License-Identifier: Apache-2.0
// tandem-controlplane: configuration, hardening, signals; the rooms are made and joined in gateway.cpp, on one
// io_context thread.
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "controlplane/app/config.hpp"
#include "controlplane/app/gateway.hpp"
#include "controlplane/app/wiping_allocator.hpp"
#include "controlplane/protocol/one_line_log.hpp"
#include "controlplane/protocol/tls.hpp"
#include "controlplane/store/shared/postgres.hpp"
#include "dataplane/api/service_manager.hpp"

namespace tandem::control {
namespace {

int fail(const std::string& text) {
    fmt::print(stderr, "tandem-controlplane: {}\n", text);
    return 1;
}

// Keys must not reach a core file, a debugger or the swap.
void harden() {
#if !defined(__SANITIZE_ADDRESS__) // the leak check at the end reads the process as a debugger does
    ::prctl(PR_SET_DUMPABLE, 0);
#endif
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    rlimit locked{};
    ::getrlimit(RLIMIT_MEMLOCK, &locked);
    if (::geteuid() != 0 && locked.rlim_cur != RLIM_INFINITY) // a limit would make later allocations fail
        spdlog::warn("memory is not locked (limit {} bytes): keys may reach the swap; set LimitMEMLOCK=infinity",
                     locked.rlim_cur);
    else if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        spdlog::warn("memory cannot be locked ({}): keys may reach the swap", std::strerror(errno));
}

// One control plane per run_dir. The descriptor stays open as long as the process lives.
tl::expected<int, std::string> take_lock(const config& settings) {
    std::error_code error;
    std::filesystem::create_directories(settings.run_dir, error);
    const auto path = settings.lock_file();
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return tl::unexpected(
            fmt::format("{} cannot be written: {}; check run_dir and its owner", path, std::strerror(errno)));
    if (::flock(file, LOCK_EX | LOCK_NB) != 0) {
        ::close(file);
        return tl::unexpected(fmt::format(
            "another tandem-controlplane runs on {} (its lock: {}); stop it, or give this one another run_dir",
            settings.run_dir, path));
    }
    const auto pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(file, 0) != 0 || ::write(file, pid.data(), pid.size()) < 0)
        spdlog::warn("{} cannot be written", path);
    return file;
}

// The service manager hears of this thread each second, or ends it.
class heartbeat {
public:
    explicit heartbeat(asio::io_context& io) : timer_(io) {}
    void start() {
        api::tell_service_manager("READY=1");
        beat();
    }
    void stop() {
        timer_.cancel();
        api::tell_service_manager("STOPPING=1");
    }

private:
    void beat() {
        api::tell_service_manager("WATCHDOG=1");
        timer_.expires_after(std::chrono::milliseconds(api::watchdog_ping_ms));
        timer_.async_wait([this](const asio::error_code& error) {
            if (!error)
                beat();
        });
    }
    asio::steady_timer timer_;
};

// What start would refuse, beside what the file itself says.
tl::expected<void, std::string> check_files(const config& settings) {
    const auto context =
        protocol::make_server_context([](std::string_view) { return std::nullopt; }, settings.tunnel.certificates);
    if (!context)
        return tl::unexpected(fmt::format("{}: [tunnel] {}", settings.file, context.error()));
    return {};
}

int run(const config& settings) {
    ::signal(SIGHUP, SIG_IGN); // until there are levels to reload: it must not end us
    const auto lock = take_lock(settings);
    if (!lock)
        return fail(lock.error());
    asio::io_context io(1);
    auto made = gateway::make(io, settings);
    if (!made)
        return fail(made.error());
    auto& rooms = **made;
    if (auto started = rooms.start(); !started)
        return fail(started.error());

    heartbeat alive(io);
    alive.start();
    asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](const asio::error_code& error, int number) {
        if (error)
            return;
        spdlog::info("signal {}: ending; calls stay in the data plane", number);
        alive.stop();
        rooms.stop();
        io.stop();
    });
    asio::signal_set reload(io, SIGHUP);
    std::function<void(const asio::error_code&, int)> again = [&](const asio::error_code& error, int) {
        if (error)
            return;
        rooms.reload("SIGHUP");
        reload.async_wait(again);
    };
    reload.async_wait(again);
    spdlog::info("tandem-controlplane {} runs: instance {}, ops socket {}", TANDEM_VERSION, settings.instance,
                 settings.ops_socket());
    io.run();
    return 0;
}

} // namespace
} // namespace tandem::control

int main(int argc, char** argv) {
    tandem::control::wipe_openssl_memory();
    CLI::App arguments("Tandem's control plane: primary tunnels, seeds, policy, ng call control");
    arguments.name("tandem-controlplane");
    std::string file = "/etc/tandem/controlplane.toml";
    bool check = false;
    arguments.add_option("--config", file, "configuration (TOML)")->capture_default_str();
    arguments.add_flag("--check", check,
                       "read the configuration and the certificates that it names, say whether they are fine, and end");
    arguments.footer("exit status: 0 ended in order, 1 failed, 2 wrong usage");
    arguments.set_version_flag("--version", std::string("tandem-controlplane ") + TANDEM_VERSION);
    try {
        arguments.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return arguments.exit(error) == 0 ? 0 : 2;
    }
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_st>()));
    spdlog::set_formatter(std::make_unique<tandem::protocol::one_line_log>("%Y-%m-%dT%H:%M:%S.%e %l %v"));
    const auto settings = tandem::control::load_config(file);
    if (!settings)
        return tandem::control::fail(settings.error());
    if (settings->store.shared)
        if (auto fine = tandem::store::check_conninfo(settings->store.conninfo); !fine)
            return tandem::control::fail(fmt::format("{}: [store] conninfo: {}", file, fine.error()));
    if (check) {
        if (auto fine = tandem::control::check_files(*settings); !fine)
            return tandem::control::fail(fine.error());
        fmt::print("{}: fine\n", file);
        return 0;
    }
    spdlog::set_level(spdlog::level::from_str(settings->log_level));
    ::signal(SIGPIPE, SIG_IGN);
    tandem::control::harden();
    try {
        return tandem::control::run(*settings);
    } catch (const std::exception& error) {
        return tandem::control::fail(fmt::format("{}; this is a bug, please report it", error.what()));
    }
}
