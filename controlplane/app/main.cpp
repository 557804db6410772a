// SPDX-License-Identifier: Apache-2.0
// tandem-controlplane: configuration, hardening, and the wiring of the rooms on one io_context thread.
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
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
#include "controlplane/app/ops_server.hpp"
#include "controlplane/app/ops_verbs.hpp"
#include "controlplane/app/wiping_allocator.hpp"
#include "controlplane/callcontrol/ng_server.hpp"
#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/dataplane_client/stats_reader.hpp"
#include "controlplane/identity/seal.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/policy/engine.hpp"
#include "controlplane/records/database.hpp"
#include "controlplane/session/manager.hpp"

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

int run(const config& settings) {
    const auto lock = take_lock(settings);
    if (!lock)
        return fail(lock.error());
    auto keys = identity::sealer::open(settings.master_key_file);
    if (!keys)
        return fail(keys.error());
    auto store = records::database::open(settings.database, std::move(*keys));
    if (!store)
        return fail(store.error());

    asio::io_context io(1);
    dataplane_client::client dataplane(io, settings.dataplane);
    dataplane_client::stats_reader stats;
    policy::config rules;
    rules.levels = settings.levels;
    rules.default_level = settings.default_level;
    policy::engine levels(std::move(rules));
    session::manager sessions(io, settings.tunnel, (*store)->identities(), (*store)->sessions());
    media::manager relay(io, settings.media, dataplane, stats, sessions, levels, (*store)->media());
    callcontrol::config ng;
    ng.listen = settings.ng;
    ng.core_interface = settings.media.core;
    ng.is_inner = [&tunnel = settings.tunnel](const asio::ip::address& address) {
        if (address.is_v4())
            return tunnel.inner4 && asio::ip::network_v4(address.to_v4(), tunnel.inner4->prefix_length()).canonical() ==
                                        tunnel.inner4->canonical();
        return tunnel.inner6 && asio::ip::network_v6(address.to_v6(), tunnel.inner6->prefix_length()).canonical() ==
                                    tunnel.inner6->canonical();
    };
    callcontrol::server calls(io, ng, relay, sessions, (*store)->calls());
    verbs answers(rooms{settings, **store, dataplane, stats, sessions, relay, calls});
    ops_server ops(io, settings.ops_socket(), answers);

    sessions.on_up = [&](const session::session_info& session) {
        spdlog::info("unit {} is up from {}:{} ({})", session.unit, session.outer.to_string(), session.outer_port,
                     session.cipher);
        relay.session_up(session);
    };
    sessions.on_down = [&](const session::session_info& session, bool final) {
        spdlog::info("unit {} is down{}", session.unit, final ? ", its session is over" : "");
        relay.session_down(session, final);
    };

    relay.start();
    if (auto started = calls.start(); !started)
        return fail(started.error());
    if (auto started = sessions.start(); !started)
        return fail(started.error());
    if (auto started = ops.start(); !started)
        return fail(started.error());
    std::vector<media::media_id> known;
    for (const auto& call : calls.calls())
        known.insert(known.end(), call.media.begin(), call.media.end());
    asio::co_spawn(io, relay.close_all_but(std::move(known), "its call is not known any more"), asio::detached);
    dataplane.start();

    asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](const asio::error_code& error, int number) {
        if (error)
            return;
        spdlog::info("signal {}: ending; calls stay in the data plane", number);
        ops.stop();
        calls.stop();
        relay.stop();
        dataplane.stop();
        sessions.stop();
        io.stop();
    });
    spdlog::info("tandem-controlplane {} runs: instance {}, ops socket {}", TANDEM_VERSION, settings.instance,
                 settings.ops_socket());
    if (!dataplane.connected())
        spdlog::info("waiting for the data plane at {}", settings.dataplane);
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
    arguments.add_flag("--check", check, "read the configuration, say whether it is fine, and end");
    arguments.set_version_flag("--version", std::string("tandem-controlplane ") + TANDEM_VERSION);
    try {
        arguments.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return arguments.exit(error) == 0 ? 0 : 2;
    }
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_st>()));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    const auto settings = tandem::control::load_config(file);
    if (!settings)
        return tandem::control::fail(settings.error());
    if (check) {
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
