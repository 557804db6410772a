// SPDX-License-Identifier: Apache-2.0
// tandem-agent: arguments, privileged set-up in the right order, then one thread.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>

#include <CLI/CLI.hpp>
#include <asio/io_context.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/tls.hpp"
#include "tools/agent/advice/contacts_cli.hpp"
#include "tools/agent/agent.hpp"
#include "tools/agent/config.hpp"
#include "tools/agent/device/privileges.hpp"
#include "tools/agent/exit_status.hpp"
#include "tools/agent/roam/paths_cli.hpp"

namespace {

using namespace tandem;
using namespace tandem::agent;

int show_status(const std::string& directory) {
    const auto status = read_status(directory);
    if (!status)
        return complain(status.error(), exit_unreachable);
    const auto parsed = nlohmann::json::parse(*status, nullptr, false);
    if (parsed.is_discarded())
        return complain("what answers there is no agent", exit_failed);
    fmt::print("{}\n", parsed.dump(2));
    return exit_ok;
}

tl::expected<protocol::ssl_context, std::string> make_tls(const agent_config& config) {
    if (!config.uses_psk())
        return protocol::make_client_context({config.certificate, config.key, config.ca}, config.gateway_name);
    auto psk = read_psk(config.psk_file);
    if (!psk)
        return tl::unexpected(psk.error());
    return protocol::make_client_context(config.id, std::move(*psk));
}

tl::expected<void, std::string> check_capture(const agent_config& config) {
    if (!config.capture.any())
        return {};
    if (const auto cgroup = bpf::capture::find_cgroup(config.capture.cgroup); !cgroup)
        return tl::unexpected(cgroup.error());
    return {};
}

// What start would refuse, beside what the file itself says.
tl::expected<void, std::string> check_start(const agent_config& config) {
    if (const auto tls = make_tls(config); !tls)
        return tl::unexpected(tls.error());
    if (const auto ready = check_capture(config); !ready)
        return ready;
    return check_user(config.user);
}

int run(const agent_config& config) {
    if (const auto warning = harden(); !warning.empty())
        spdlog::warn("{}", warning);
    if (const auto ready = check_capture(config); !ready)
        return complain(ready.error(), exit_failed);
    auto tls = make_tls(config);
    if (!tls)
        return complain(tls.error(), exit_failed);
    auto tun = tun_device::open(config.tun);
    if (!tun)
        return complain(tun.error(), exit_failed);
    asio::io_context io(1);
    std::unique_ptr<status_server> status;
    if (!config.run_dir.empty()) {
        if (const auto made = prepare_run_dir(config.run_dir, config.user); !made)
            return complain(made.error(), exit_failed);
        auto opened = status_server::open(io, config.run_dir, config.user);
        if (!opened)
            return complain(opened.error(), exit_failed);
        status = std::move(*opened);
    }
    if (!config.state_dir.empty())
        if (const auto made = prepare_state_dir(config.state_dir, config.user); !made)
            return complain(made.error(), exit_failed);
    if (const auto warning = lock_memory(); !warning.empty())
        spdlog::warn("{}", warning);
    agent::agent program(io, config, std::move(*tls), std::move(*tun), std::move(status));
    if (const auto opened = program.open(); !opened)
        return complain(opened.error(), exit_failed);
    if (const auto became = become(config.user); !became)
        return complain(became.error(), exit_failed);
    if (const auto started = program.start(); !started)
        return complain(started.error(), exit_failed);
    io.run();
    return program.fatal().empty() ? exit_ok : exit_failed;
}

// Of the running agent that is meant, or a sentence.
tl::expected<std::string, std::string> find_run_dir(std::string run_dir, const std::string& file) {
    if (run_dir.empty() == file.empty())
        return tl::unexpected(std::string("give --config FILE of the agent, or --run-dir DIR"));
    if (!run_dir.empty())
        return run_dir;
    const auto config = load_config(file);
    if (!config)
        return tl::unexpected(config.error());
    if (config->run_dir.empty())
        return tl::unexpected(file +
                              ": no run_dir; write run_dir = \"/run/tandem-agent\", where the agent tells its state");
    return config->run_dir;
}

CLI::App* add_paths(CLI::App& app, std::string& file, std::string& directory, paths_view& view) {
    auto* paths = app.add_subcommand("paths", "show the networks that the running agent may use, and why it moved");
    paths->add_option("-c,--config", file, "the agent's configuration, whose run_dir is meant");
    paths->add_option("--run-dir", directory, "that directory itself");
    paths->add_flag("--json", view.json, "as JSON");
    paths->add_flag("--watch", view.watch, "again each second");
    paths->add_option("--rounds", view.rounds, "with --watch: end after so many; 0: never");
    paths->add_option("--moves", view.moves, "of the switches the last so many");
    return paths;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"Tandem's program on the device: primary and secondary tunnels to a Tandem gateway", "tandem-agent"};
    std::string file, directory;
    bool check = false, version = false;
    agent::paths_view view;
    app.add_option("-c,--config", file, "configuration (TOML), such as /etc/tandem/agent.toml");
    app.add_flag("--check", check,
                 "read the configuration and the files that it names, say what is wrong with them, and end");
    app.add_flag("--version", version, "say the version and end");
    auto* status = app.add_subcommand("status", "show the running agent's state as JSON");
    status->add_option("-c,--config", file, "the agent's configuration, whose run_dir is meant");
    status->add_option("--run-dir", directory, "that directory itself");
    auto* paths = add_paths(app, file, directory, view);
    app.footer("exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 no agent answers");
    agent::contacts_cli contacts(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const int code = app.exit(error);
        return code == 0 ? exit_ok : exit_usage;
    }
    if (version) {
        fmt::print("tandem-agent {}\n", TANDEM_VERSION);
        return exit_ok;
    }
    if (status->parsed() || paths->parsed()) {
        const auto where = find_run_dir(directory, file);
        if (!where)
            return complain(where.error(), exit_usage);
        return status->parsed() ? show_status(*where) : show_paths(*where, view);
    }
    if (const auto done = contacts.run(file))
        return *done;
    if (file.empty())
        return complain("give the configuration with --config FILE (--help says more)", exit_usage);
    const auto config = load_config(file);
    if (!config)
        return complain(config.error(), exit_usage);
    if (check) {
        if (const auto ready = check_start(*config); !ready)
            return complain(ready.error(), exit_failed);
        fmt::print("{}: good\n", file);
        return exit_ok;
    }
    spdlog::set_default_logger(spdlog::stderr_logger_st("agent"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    try {
        return run(*config);
    } catch (const std::exception& error) { // out of memory, or a mistake of ours: never silent
        spdlog::critical("ended by an error inside: {}", error.what());
        return exit_failed;
    }
}
