// SPDX-License-Identifier: Apache-2.0
// tandem-dataplane: starts in this order, so that every failure is one sentence before anything was changed:
//   configuration -> instance lock -> privileges -> state memory -> EAL -> ports (XDP) -> recovery -> workers ->
//   contract.
// Under its holder (--holder-fd) it waits between EAL and ports until it is its turn, and takes the locks after it.
// Exit: 0 after SIGTERM/SIGINT, 1 where it could not start, 2 wrong usage, 75 where the holder's memory has another
// layout.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <pthread.h>
#include <string>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "dataplane/api/service_manager.hpp"
#include "dataplane/app/config.hpp"
#include "dataplane/app/contract_server.hpp"
#include "dataplane/app/control.hpp"
#include "dataplane/app/holder_link.hpp"
#include "dataplane/app/holder_words.hpp"
#include "dataplane/app/patience.hpp"
#include "dataplane/app/ports.hpp"
#include "dataplane/app/privileges.hpp"
#include "dataplane/app/stats_file.hpp"
#include "dataplane/app/stopwatch.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/io/cpus.hpp"
#include "dataplane/io/eal.hpp"

namespace tandem::app {
namespace {

constexpr int exit_fresh_memory = 75;

struct options {
    std::string config_path = "/etc/tandem/dataplane.toml";
    int state_fd = -1;
    int holder_fd = -1;
    bool check = false;
    std::string idle{}; // empty: as the configuration says
};

// Why the program ends before it forwards. Thrown and caught in this file only.
struct failure {
    int code;
    std::string text;
};

[[noreturn]] void fail(std::string text, int code = 1) {
    throw failure{code, std::move(text)};
}

template <class T>
T take(tl::expected<T, std::string> from) {
    if (!from)
        fail(std::move(from.error()));
    if constexpr (!std::is_void_v<T>)
        return std::move(*from);
}

// A record lock goes with the process before its files are closed one by one; there must be no other descriptor of it
// here.
bool lock_whole(int fd) {
    struct flock all {};
    all.l_type = F_WRLCK;
    return fcntl(fd, F_SETLK, &all) == 0;
}

// One live data plane per run directory. The lock goes with the process, however it ends, and with this descriptor.
int take_lock(const config& settings, bool held) {
    std::error_code error;
    std::filesystem::create_directories(settings.run_dir, error);
    const int fd = open(settings.lock_path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        fail(fmt::format("{}: {}; create run_dir or make it writable", settings.lock_path(), std::strerror(errno)));
    if (!patiently(held, [&] { return lock_whole(fd); }))
        fail(fmt::format("another data plane runs on {}; stop it, or give this one its own run_dir and instance",
                         settings.socket_path()));
    return fd;
}

// And one per state memory, whatever the configuration says.
void take_memory_lock(int state_fd) {
    if (state_fd >= 0 && !lock_whole(state_fd))
        fail(fmt::format("another data plane forwards on this state memory: {}", std::strerror(errno)));
}

int signal_descriptor() {
    sigset_t watched;
    sigemptyset(&watched);
    for (const int number : {SIGTERM, SIGINT})
        sigaddset(&watched, number);
    pthread_sigmask(SIG_BLOCK, &watched, nullptr); // before any thread: all inherit it
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);
    return signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
}

flow::memory open_memory(const options& given, const config& settings) {
    auto memory = given.state_fd >= 0 ? flow::memory::adopt(given.state_fd, settings.max_flows)
                                      : flow::memory::make(settings.max_flows);
    if (!memory) {
        if (memory.error().what == flow::memory_error::kind::layout)
            fail(fmt::format("the flow state cannot be used: {}; asking the holder for a fresh one, flows are lost",
                             memory.error().text),
                 exit_fresh_memory);
        fail(memory.error().text);
    }
    if (given.state_fd < 0)
        spdlog::warn(
            "no holder (--state-fd): flows would not survive a kill of this process; start it by tandem-holder");
    if (!memory->locked())
        spdlog::warn("the flow state ({} bytes a flow) could not be locked in memory: keys may reach swap",
                     flow::memory::bytes_per_flow());
    if (memory->header().max_flows != settings.max_flows)
        spdlog::warn(
            "max_flows is {} on the flow state in force; {} of the configuration counts from the next clean start",
            memory->header().max_flows, settings.max_flows);
    return std::move(*memory);
}

std::string_view engine_name(config::engine e) {
    constexpr std::string_view names[] = {"auto", "ipsecmb", "openssl"};
    return names[static_cast<std::size_t>(e)];
}

int worker_main(void* argument) {
    keep_running_privileges(); // capabilities are a thread's own
    static_cast<pipeline::worker*>(argument)->run();
    return 0;
}

class running_workers {
public:
    running_workers(const config& settings, pipeline::shared_state& shared, const std::vector<io::port>& ports) {
        for (unsigned i = 0; i < settings.workers; ++i) {
            auto engine = take(crypto::make_engine(engine_name(settings.crypto)));
            workers_.push_back(std::make_unique<pipeline::worker>(
                i, shared, std::move(engine), ports_of_worker(settings, ports, i), idle_of_worker(settings, ports, i)));
            shared.workers.push_back(workers_.back().get());
        }
    }
    void launch(const std::vector<unsigned>& lcores) {
        lcores_ = lcores;
        for (std::size_t i = 0; i < workers_.size(); ++i)
            if (rte_eal_remote_launch(worker_main, workers_[i].get(), lcores[i]) != 0)
                fail(fmt::format("worker {} could not be started", i));
        for (const auto& w : workers_)
            while (!w->running())
                usleep(50);
    }
    ~running_workers() {
        for (const auto& w : workers_)
            w->stop();
        for (const unsigned lcore : lcores_)
            rte_eal_wait_lcore(lcore);
    }

private:
    std::vector<std::unique_ptr<pipeline::worker>> workers_;
    std::vector<unsigned> lcores_;
};

// No worker runs any more. XDP's program stays for the next data plane to find, which begins while the kernel takes
// this one's memory away.
[[noreturn]] void leave_to_next(std::vector<io::port>& ports, stats_file& stats, std::initializer_list<int> locked,
                                holder_link& holder) {
    spdlog::info("another data plane takes over");
    for (io::port& port : ports)
        io::leave_port(port);
    stats.let_go();
    for (const int file : locked)
        close(file);
    holder.end();
    spdlog::shutdown();
    _exit(0);
}

int serve(const options& given, const config& settings, int signals) {
    holder_link holder(given.holder_fd);
    const bool held = holder.fd() >= 0;
    int lock = held ? -1 : take_lock(settings, held);
    take(check_privileges());
    if (auto wrong = harden_process(); !wrong.empty())
        spdlog::warn("hardening: {}", wrong);
    keep_start_privileges();
    prctl(PR_SET_TIMERSLACK, 1); // ns, inherited by all threads: a worker's short nap is short
    const int node = io::node_of(settings.ports);
    const io::memory_on_node near_ports(node); // state memory is touched (locked) here, DPDK's below
    flow::memory memory = open_memory(given, settings);
    auto builder = take(crypto::make_engine(engine_name(settings.crypto)));
    const port_plan plan = take(plan_ports(settings));
    const io::eal eal =
        take(io::eal::start({settings.instance, settings.workers, static_cast<io::hugepages>(settings.memory),
                             plan.descriptors, false, settings.cpus, node}));
    holder.close_behind_what_follows();
    std::vector<io::port> ports = take(prepare_ports(settings, plan, eal.pool()));
    if (held && !holder.stand_by(signals))
        _exit(0); // nothing of it is in force
    stopwatch watch;
    if (held)
        lock = take_lock(settings, held);
    take_memory_lock(given.state_fd);
    for (const auto& note : eal.notes())
        spdlog::info("{}", note);
    watch.passed("locks");
    stats_file stats = take(
        patiently(held, [&] { return stats_file::open(settings.stats_path(), settings.workers, memory.slots()); }));
    take(start_ports(settings, ports, eal.pool(), perimeter(settings.perimeter_path()), held));
    holder.give_sockets(sockets_of(ports));
    watch.passed("ports");
    auto resolver = take(io::nexthop_resolver::make(ifindexes_of(ports)));

    flow::port_table table(address_list(settings));
    pipeline::hop_table hops(memory.slots());
    pipeline::shared_state shared{memory, table, hops, stats.workers(), stats.flows(), {}};
    pipeline::worker_pool pool(shared);
    flow::store flows(memory, table, *builder, pool, settings.workers);
    control thread(settings, flows, shared, stats, ports, *resolver, pool, holder);
    take(thread.set_up_edge());
    watch.passed("edge");
    const std::string engine(builder->name());
    bool left = false;
    {
        running_workers workers(settings, shared, ports);
        thread.recover();
        watch.passed("recovery");
        workers.launch(eal.worker_lcores());
        watch.passed("workers");
        thread.workers_started(eal.pool());
        keep_running_privileges();
        auto server =
            take(contract_server::listen(settings.socket_path(), settings.controller_uid.value_or(geteuid()), thread));
        spdlog::info("ready: {} flows of {}, engine {}, contract {}", flows.count(), memory.header().max_flows, engine,
                     settings.socket_path());
        spdlog::info("in force {} ms after its turn came: {}", watch.total_ms(), watch.text());
        stats.in_service();
        holder.say(holder_words::forwards);
        if (!held)
            api::tell_service_manager("READY=1");
        left = thread.run(*server, signals) == control::end::leave;
        if (!left)
            holder.say(holder_words::ends);
    }
    if (left)
        leave_to_next(ports, stats, {lock, given.state_fd}, holder);
    stats.remove();
    return 0;
}

int start(const options& given) {
    config settings = take(load_config(given.config_path));
    if (!given.idle.empty())
        settings.when_idle = *parse_idle(given.idle);
    if (given.check) {
        fmt::print("{}: ok\n", given.config_path);
        return 0;
    }
    return serve(given, settings, signal_descriptor());
}

} // namespace
} // namespace tandem::app

int main(int argc, char** argv) {
    using namespace tandem::app;
    options given;
    CLI::App cli{"Tandem's data plane: forwards media, protects and unprotects SRTP", "tandem-dataplane"};
    cli.footer(
        "exit status: 0 ended in order, 1 failed, 2 wrong usage, 75 the state memory fits no more (for tandem-holder)");
    cli.set_version_flag("--version", "tandem-dataplane " TANDEM_VERSION);
    cli.add_option("--config", given.config_path, "configuration file")->capture_default_str();
    cli.add_option("--state-fd", given.state_fd, "descriptor of the flow-state memory (given by tandem-holder)");
    cli.add_option("--holder-fd", given.holder_fd, "socket to talk with it, which tells when to forward (given by it)");
    cli.add_flag("--check", given.check, "check the configuration and exit");
    cli.add_option("--idle", given.idle, "when a worker's queues are empty: poll, interrupt or adaptive")
        ->check([](const std::string& word) {
            const auto known = parse_idle(word);
            return known ? std::string{} : known.error();
        });
    try {
        cli.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const int code = cli.exit(error);
        return code == 0 ? 0 : 2;
    }
    spdlog::set_default_logger(spdlog::stderr_logger_st("dataplane"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e tandem-dataplane %l: %v");
    try {
        return start(given);
    } catch (const failure& wrong) {
        fmt::print(stderr, "tandem-dataplane: {}\n", wrong.text);
        return wrong.code;
    } catch (const std::exception& wrong) {
        fmt::print(stderr, "tandem-dataplane: {}\n", wrong.what());
        return 1;
    }
}
