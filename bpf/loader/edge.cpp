// SPDX-License-Identifier: Apache-2.0
// The edge's maps, found from the attached program: program id -> map ids -> names -> file descriptors.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/descriptor.hpp"
#include "bpf/loader/edge.hpp"
#include "bpf/loader/program.hpp"
#include "bpf/loader/queues.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/api/edge_maps.h"

namespace tandem::bpf {

namespace {

constexpr std::size_t port_words = std::size_t{TANDEM_EDGE_MAX_ADDRESSES} * TANDEM_EDGE_PORT_WORDS;
constexpr std::size_t port_bytes = port_words * sizeof(std::uint64_t);

tl::unexpected<std::string> failed(std::string_view what, int code) {
    return tl::unexpected(fmt::format("XDP edge: {}: {}", what, describe_error(code)));
}

} // namespace

struct edge::maps {
    attach_mode mode = attach_mode::generic;
    std::uint32_t program_id = 0;
    descriptor media_addresses, open_ports, tunnel_ports, settings, inner_networks, proven_sources, verdicts, xsks_map;
    std::uint64_t* ports = nullptr; // open_ports, shared with the program
    queue_seeker seeker;

    maps() = default;
    maps(const maps&) = delete;
    maps& operator=(const maps&) = delete;
    ~maps() {
        if (ports != nullptr)
            ::munmap(ports, port_bytes);
    }

    void take(std::string_view name, descriptor fd) {
        if (name == "media_addresses")
            media_addresses = std::move(fd);
        else if (name == "open_ports")
            open_ports = std::move(fd);
        else if (name == "tunnel_ports")
            tunnel_ports = std::move(fd);
        else if (name == "settings")
            settings = std::move(fd);
        else if (name == "inner_networks")
            inner_networks = std::move(fd);
        else if (name == "proven_sources")
            proven_sources = std::move(fd);
        else if (name == "verdicts")
            verdicts = std::move(fd);
        else if (name == "xsks_map")
            xsks_map = std::move(fd);
    }

    [[nodiscard]] bool complete() const {
        return media_addresses && open_ports && tunnel_ports && settings && inner_networks && proven_sources &&
               verdicts && xsks_map;
    }

    // The word and the mask of a port's bit.
    [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::uint32_t address, std::uint16_t port) const {
        return std::atomic_ref(ports[address * TANDEM_EDGE_PORT_WORDS + port / 64u]);
    }
};

edge::edge(std::unique_ptr<maps> m) noexcept : maps_(std::move(m)) {}
edge::edge(edge&& other) noexcept = default;
edge& edge::operator=(edge&& other) noexcept = default;
edge::~edge() = default;

tl::expected<edge, std::string> edge::open(unsigned ifindex, std::string_view name) {
    auto info = query_program(ifindex, name);
    if (!info)
        return tl::unexpected(info.error());
    if (info->id == 0 || info->name != program_name)
        return tl::unexpected(fmt::format("Tandem's XDP program is not attached to {}", name));
    auto opened = open_program(info->id);
    if (opened)
        opened->maps_->mode = info->mode;
    return opened;
}

tl::expected<edge, std::string> edge::open_program(std::uint32_t program_id) {
    descriptor program(bpf_prog_get_fd_by_id(program_id));
    if (!program)
        return failed("cannot open the program", errno);
    std::vector<std::uint32_t> ids(32);
    bpf_prog_info info{};
    info.nr_map_ids = static_cast<std::uint32_t>(ids.size());
    info.map_ids = reinterpret_cast<std::uintptr_t>(ids.data());
    std::uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0)
        return failed("cannot read the program's maps", errno);
    if (info.nr_map_ids < ids.size())
        ids.resize(info.nr_map_ids);

    auto found = std::make_unique<maps>();
    found->program_id = program_id;
    for (std::uint32_t id : ids) {
        descriptor fd(bpf_map_get_fd_by_id(id));
        bpf_map_info map{};
        length = sizeof(map);
        if (!fd || bpf_obj_get_info_by_fd(fd.get(), &map, &length) != 0)
            return failed("cannot open a map", errno);
        found->take(map.name, std::move(fd));
    }
    if (!found->complete())
        return tl::unexpected(
            std::string("XDP edge: the attached program lacks a map: it is of another version of Tandem"));
    void* memory = ::mmap(nullptr, port_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, found->open_ports.get(), 0);
    if (memory == MAP_FAILED)
        return failed("cannot map the open ports into memory", errno);
    found->ports = static_cast<std::uint64_t*>(memory);
    return edge(std::move(found));
}

tl::expected<edge, std::string> edge::open_loaded(int program) {
    bpf_prog_info info{};
    std::uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(program, &info, &length) != 0)
        return failed("cannot read the program's id", errno);
    return open_program(info.id);
}

attach_mode edge::mode() const noexcept {
    return maps_->mode;
}

attached_program edge::on(unsigned ifindex) const noexcept {
    const auto seen = query_attached(ifindex);
    if (!seen) // where the kernel does not say, nobody is blamed
        return attached_program::ours;
    if (seen->id == 0)
        return attached_program::none;
    return seen->id == maps_->program_id ? attached_program::ours : attached_program::other;
}

bool edge::has_socket(std::uint16_t queue) const noexcept {
    return maps_->seeker.ask(maps_->xsks_map.get(), queue) != 0; // likewise
}

result edge::add_media_address(const address& ip, std::uint32_t index) {
    if (index >= TANDEM_EDGE_MAX_ADDRESSES)
        return tl::unexpected(fmt::format("XDP edge: at most {} media addresses", TANDEM_EDGE_MAX_ADDRESSES));
    if (bpf_map_update_elem(maps_->media_addresses.get(), ip.data(), &index, BPF_ANY) != 0)
        return failed("cannot add a media address", errno);
    return {};
}

result edge::remove_media_address(const address& ip) {
    if (bpf_map_delete_elem(maps_->media_addresses.get(), ip.data()) != 0 && errno != ENOENT)
        return failed("cannot remove a media address", errno);
    return {};
}

void edge::open_port(std::uint32_t address_index, std::uint16_t port) noexcept {
    if (address_index < TANDEM_EDGE_MAX_ADDRESSES)
        maps_->word(address_index, port).fetch_or(1ull << (port % 64u), std::memory_order_release);
}

void edge::close_port(std::uint32_t address_index, std::uint16_t port) noexcept {
    if (address_index < TANDEM_EDGE_MAX_ADDRESSES)
        maps_->word(address_index, port).fetch_and(~(1ull << (port % 64u)), std::memory_order_release);
}

bool edge::is_open(std::uint32_t address_index, std::uint16_t port) const noexcept {
    return address_index < TANDEM_EDGE_MAX_ADDRESSES &&
           (maps_->word(address_index, port).load(std::memory_order_relaxed) >> (port % 64u) & 1) != 0;
}

result edge::add_tunnel_port(std::uint16_t port, std::uint8_t protocol, bool limited) {
    tandem_edge_service key{port, protocol, 0};
    std::uint32_t value = limited ? 1 : 0;
    if (bpf_map_update_elem(maps_->tunnel_ports.get(), &key, &value, BPF_ANY) != 0)
        return failed(fmt::format("cannot add tunnel port {}", port), errno);
    return {};
}

result edge::remove_tunnel_port(std::uint16_t port, std::uint8_t protocol) {
    tandem_edge_service key{port, protocol, 0};
    if (bpf_map_delete_elem(maps_->tunnel_ports.get(), &key) != 0 && errno != ENOENT)
        return failed(fmt::format("cannot remove tunnel port {}", port), errno);
    return {};
}

result edge::prove(const address& ip) {
    static constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    tandem_edge_prefix prefix{};
    if (std::equal(mapped.begin(), mapped.end(), ip.begin()))
        std::copy_n(ip.begin() + 12, 3, prefix.ip + 4);
    else
        std::copy_n(ip.begin(), sizeof prefix.ip, prefix.ip);
    const std::uint8_t yes = 1;
    if (bpf_map_update_elem(maps_->proven_sources.get(), &prefix, &yes, BPF_ANY) != 0)
        return failed("cannot note a unit's source", errno);
    return {};
}

result edge::set_handshake_limit(std::uint32_t per_second, std::uint32_t burst, std::uint32_t total_per_second,
                                 std::uint32_t total_burst) {
    std::uint32_t zero = 0;
    tandem_edge_settings value{per_second, burst, total_per_second, total_burst};
    if (bpf_map_update_elem(maps_->settings.get(), &zero, &value, BPF_ANY) != 0)
        return failed("cannot set the handshake limit", errno);
    return {};
}

result edge::set_inner(std::span<const network> networks) {
    if (networks.size() > TANDEM_EDGE_MAX_INNER)
        return tl::unexpected(fmt::format("XDP edge: at most {} inner networks", TANDEM_EDGE_MAX_INNER));
    tandem_edge_inner value{};
    for (const network& n : networks) {
        address mask{}, first{};
        for (unsigned bit = 0; bit < n.prefix_length; ++bit)
            mask[bit / 8] = static_cast<std::uint8_t>(mask[bit / 8] | 0x80U >> bit % 8);
        for (std::size_t i = 0; i < mask.size(); ++i)
            first[i] = n.ip[i] & mask[i];
        std::memcpy(value.network[value.count].address, first.data(), first.size());
        std::memcpy(value.network[value.count].mask, mask.data(), mask.size());
        ++value.count;
    }
    std::uint32_t zero = 0;
    if (bpf_map_update_elem(maps_->inner_networks.get(), &zero, &value, BPF_ANY) != 0)
        return failed("cannot set the inner networks", errno);
    return {};
}

tl::expected<std::array<std::uint64_t, edge::verdict_count>, std::string> edge::verdicts() const {
    static const auto cpus = static_cast<std::size_t>(libbpf_num_possible_cpus());
    std::vector<std::uint64_t> per_cpu(cpus);
    std::array<std::uint64_t, verdict_count> sums{};
    for (std::uint32_t verdict = 0; verdict < verdict_count; ++verdict) {
        if (verdict < api::drop_count ? !api::by_edge(static_cast<api::drop>(verdict))
                                      : verdict < TANDEM_EDGE_VERDICT_BASE || verdict >= TANDEM_EDGE_VERDICTS)
            continue; // the edge never gives these
        if (bpf_map_lookup_elem(maps_->verdicts.get(), &verdict, per_cpu.data()) != 0)
            return failed("cannot read the verdicts", errno);
        for (std::uint64_t n : per_cpu)
            sums[verdict] += n;
    }
    return sums;
}

} // namespace tandem::bpf
