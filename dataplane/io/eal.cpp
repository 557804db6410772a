// SPDX-License-Identifier: Apache-2.0
// EAL arguments from our configuration; the choice of pages; the pool.
#include "dataplane/io/eal.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <unistd.h>

#include "bpf/loader/driver.hpp"
#include "dataplane/io/capture.hpp"
#include "dataplane/io/cpus.hpp"

namespace tandem::io {

namespace {

// Per descriptor of a receive ring: net_af_xdp keeps one in the fill ring and up to one in the transmit ring; the rest
// is for a second try to open it (it does not give the fill ring's buffers back when it fails or is closed). Per
// worker: its pool cache, a burst in each stage, and beside others what waits in its hand-off ring.
constexpr unsigned buffers_per_descriptor = 4, fewest_descriptors = 2048;
constexpr unsigned buffers_per_worker = 2048, buffers_handed = 2048;
constexpr unsigned pool_cache = 256;
constexpr std::uint64_t bytes_per_buffer = mbuf_data_room + sizeof(rte_mbuf) + 128; // mempool header, rounding
// A buffer never crosses a page, so of ordinary pages each holds one.
constexpr std::uint64_t bytes_per_buffer_small_pages = 4096;
static_assert(bytes_per_buffer <= bytes_per_buffer_small_pages);
constexpr std::uint64_t megabyte = 1024 * 1024;

unsigned pool_size(const eal_config& config) {
    return std::max(config.descriptors, fewest_descriptors) * buffers_per_descriptor +
           config.workers * (buffers_per_worker + (config.workers > 1 ? buffers_handed : 0));
}

std::uint64_t memory_needed(const eal_config& config, bool huge) {
    return std::uint64_t{pool_size(config)} * (huge ? bytes_per_buffer : bytes_per_buffer_small_pages) +
           32 * megabyte; // 32: DPDK's own rings, port data, heap
}

std::uint64_t free_hugepage_bytes() {
    std::uint64_t total = 0;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", ignored)) {
        // hugepages-2048kB/free_hugepages
        std::uint64_t kilobytes =
            std::strtoull(entry.path().filename().c_str() + sizeof("hugepages-") - 1, nullptr, 10);
        std::uint64_t pages = 0;
        std::ifstream(entry.path() / "free_hugepages") >> pages;
        total += pages * kilobytes * 1024;
    }
    return total;
}

// lcore 0 is the control thread, on every CPU that no worker has for itself (all, where they have all).
std::string lcore_map(const std::vector<cpu>& present, const std::vector<cpu>& chosen, unsigned workers,
                      std::vector<std::string>& notes) {
    std::vector<unsigned> permitted, others;
    for (const cpu& c : present) {
        if (!c.permitted)
            continue;
        permitted.push_back(c.id);
        if (std::none_of(chosen.begin(), chosen.end(), [&](const cpu& taken) { return taken.id == c.id; }))
            others.push_back(c.id);
    }
    const std::string all = fmt::format("({})", fmt::join(permitted, ","));
    std::string map = others.empty() ? "0@" + all : fmt::format("0@({})", fmt::join(others, ","));
    for (unsigned worker = 0; worker < workers; ++worker)
        map += chosen.empty() ? fmt::format(",{}@{}", worker + 1, all)
                              : fmt::format(",{}@{}", worker + 1, chosen[worker].id);
    for (std::size_t worker = 0; worker < chosen.size(); ++worker)
        notes.push_back(
            fmt::format("worker {} on CPU {}, NUMA node {}", worker, chosen[worker].id, chosen[worker].node));
    if (chosen.empty())
        notes.push_back(
            fmt::format("{} worker(s) among {} CPU(s): the scheduler places them; pin them with cpus = [..]", workers,
                        permitted.size()));
    if (others.empty() || permitted.size() < workers + 1u)
        notes.push_back(
            fmt::format("{} workers and the control thread share {} CPU(s): expect less speed and more delay", workers,
                        permitted.size()));
    return map;
}

tl::expected<bool, std::string> choose_hugepages(const eal_config& config, std::vector<std::string>& notes) {
    if (config.pages == hugepages::never)
        return false;
    std::uint64_t needed = memory_needed(config, true);
    std::uint64_t present = free_hugepage_bytes();
    if (present >= needed)
        return true;
    std::string remedy = fmt::format("reserve them with: sysctl vm.nr_hugepages={}", needed / (2 * megabyte) + 1);
    if (config.pages == hugepages::require)
        return tl::unexpected(
            fmt::format("hugepages = \"require\", but {} MB are free in hugepages and {} MB are needed; {}",
                        present / megabyte, needed / megabyte + 1, remedy));
    notes.push_back(
        fmt::format("{} MB free in hugepages, {} MB would be needed: using ordinary pages, which is slower; {}",
                    present / megabyte, needed / megabyte + 1, remedy));
    return false;
}

std::vector<std::string> arguments(const eal_config& config, bool huge, std::string lcores) {
    std::uint64_t size = memory_needed(config, huge) / megabyte + 1;
    std::vector<std::string> args{"tandem-" + config.instance,
                                  "--no-pci",
                                  "--no-telemetry",
                                  "--iova-mode=va",
                                  "--proc-type=primary",
                                  "--lcores=" + std::move(lcores),
                                  config.verbose ? "--log-level=lib.eal:debug" : "--log-level=*:error"};
    if (huge) {
        args.emplace_back("--in-memory"); // no files, and nothing that outlives the process
    } else {
        args.emplace_back("--no-huge"); // together with --in-memory, AF_XDP cannot register its memory
        args.emplace_back("--no-shconf");
        args.emplace_back("-m");
        args.push_back(fmt::format("{}", size));
    }
    return args;
}

// Where the ports are, so that a frame crosses no bridge between processors; ordinary pages are of one node for DPDK.
int pool_socket(const eal_config& config) {
    for (unsigned i = 0; i < rte_socket_count() && rte_socket_count() > 1; ++i)
        if (rte_socket_id_by_idx(i) == config.node)
            return config.node;
    return SOCKET_ID_ANY;
}

} // namespace

tl::expected<eal, std::string> eal::start(const eal_config& config) {
    if (config.workers == 0 || config.workers >= RTE_MAX_LCORE)
        return tl::unexpected(fmt::format("workers = {}: must be 1 to {}", config.workers, RTE_MAX_LCORE - 1));
    eal started;
    const auto present = read_cpus();
    auto chosen = choose_cpus(present, config.workers, config.cpus, config.node);
    if (!chosen)
        return tl::unexpected(chosen.error());
    auto huge = choose_hugepages(config, started.notes_);
    if (!huge)
        return tl::unexpected(huge.error());
    started.uses_hugepages_ = *huge;
    raise_memory_lock_limit();

    std::vector<std::string> args =
        arguments(config, *huge, lcore_map(present, *chosen, config.workers, started.notes_));
    std::vector<char*> argv;
    for (auto& arg : args)
        argv.push_back(arg.data());
    argv.push_back(nullptr);
    {
        stderr_capture quiet(!config.verbose);
        int rc = rte_eal_init(static_cast<int>(args.size()), argv.data());
        if (rc < 0)
            return tl::unexpected(fmt::format("DPDK does not start: {}{}", rte_strerror(rte_errno), quiet.words()));
    }
    started.running_ = true;
    unsigned lcore = 0;
    RTE_LCORE_FOREACH_WORKER(lcore) started.worker_lcores_.push_back(lcore);

    unsigned buffers = pool_size(config);
    started.pool_ = rte_pktmbuf_pool_create("tandem", buffers, pool_cache, 0, mbuf_data_room, pool_socket(config));
    if (started.pool_ == nullptr)
        return tl::unexpected(fmt::format("no memory for {} packet buffers: {}", buffers, rte_strerror(rte_errno)));
    return started;
}

eal::eal(eal&& other) noexcept
    : worker_lcores_(std::move(other.worker_lcores_)), notes_(std::move(other.notes_)),
      pool_(std::exchange(other.pool_, nullptr)), uses_hugepages_(other.uses_hugepages_),
      running_(std::exchange(other.running_, false)) {}

eal::~eal() {
    if (!running_)
        return;
    rte_eal_mp_wait_lcore();
    rte_mempool_free(pool_);
    stderr_capture quiet(true);
    bpf::driver_parts none;
    const bpf::driver_scope closing(bpf::driver_scope::act::close, none); // it closes ports that were only prepared
    rte_eal_cleanup();
}

} // namespace tandem::io
