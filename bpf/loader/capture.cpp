// SPDX-License-Identifier: Apache-2.0
#include "bpf/loader/capture.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/descriptor.hpp"
#include "bpf/loader/object.hpp"

namespace tandem::bpf {

namespace {

#ifndef SO_NETNS_COOKIE
constexpr int SO_NETNS_COOKIE = 71;
#endif

constexpr std::size_t door_bytes = sizeof(tandem_capture_door) * TANDEM_CAPTURE_MAX_DOORS;
static_assert(sizeof(tandem_capture_door) % 8 == 0, "as the kernel lays out an array");

bool of_datagrams(std::string_view section) {
    return section.starts_with("cgroup/sendmsg") || section.starts_with("cgroup/recvmsg") ||
           section == "cgroup/sock_release";
}

struct object_close {
    void operator()(bpf_object* o) const noexcept { bpf_object__close(o); }
};
struct link_destroy {
    void operator()(bpf_link* l) const noexcept { bpf_link__destroy(l); }
};
using object_ptr = std::unique_ptr<bpf_object, object_close>;
using link_ptr = std::unique_ptr<bpf_link, link_destroy>;
using done = tl::expected<void, std::string>;

tl::unexpected<std::string> failed(std::string_view what, int code) {
    const auto* const remedy =
        code == EPERM || code == EACCES ? "; run as root, or with CAP_BPF and CAP_NET_ADMIN" : "";
    return tl::unexpected(fmt::format("capture: {}: {}{}", what, std::strerror(code), remedy));
}

tl::expected<std::uint64_t, std::string> network_cookie() {
    const descriptor any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    if (!any || ::getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0)
        return failed("this kernel does not tell which network it is in (Linux 5.14 does)", errno);
    return cookie;
}

std::string name_of(std::uint32_t id) {
    const descriptor program(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0)
        return {};
    return info.name;
}

// Whoever else redirects the same calls, here or above: whose word counts would be the order's.
done refuse_others(int cgroup, const std::string& path, const bpf_program* program) {
    const auto type = bpf_program__expected_attach_type(program);
    std::array<std::uint32_t, 64> ids{};
    auto count = static_cast<std::uint32_t>(ids.size());
    std::uint32_t flags = 0;
    if (bpf_prog_query(cgroup, type, BPF_F_QUERY_EFFECTIVE, &flags, ids.data(), &count) != 0) {
        if (errno == ENOSPC)
            count = static_cast<std::uint32_t>(ids.size());
        else
            return tl::unexpected(attach_refusal(bpf_program__section_name(program), path, errno));
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto name = name_of(ids[i]);
        const bool ours = name.starts_with("tandem_");
        if (type == BPF_CGROUP_SOCK_OPS && !ours) // those only watch
            continue;
        return tl::unexpected(fmt::format(
            "{} is captured already, by {} (program '{}', id {}, {}): {}, or take another cgroup", path,
            ours ? "another tandem-agent" : "another program", name, ids[i], bpf_program__section_name(program),
            ours ? "end it first" : fmt::format("detach it first (bpftool cgroup show {} effective)", path)));
    }
    return {};
}

tandem_capture_place loopback(bool ip6, std::uint16_t port, std::uint8_t protocol) {
    tandem_capture_place p{};
    if (port == 0)
        return p;
    p.family = ip6 ? 6 : 4;
    p.protocol = protocol;
    p.port = htons(port);
    if (ip6) {
        p.ip[15] = 1;
    } else {
        p.ip[0] = 127;
        p.ip[3] = 1;
    }
    return p;
}

} // namespace

struct capture::parts {
    object_ptr object;
    std::vector<link_ptr> links;
    int connections = -1, counters = -1, door_of = -1, free4 = -1, free6 = -1; // the object's
    tandem_capture_door* doors = nullptr;                                      // shared with the programs

    parts() = default;
    parts(const parts&) = delete;
    parts& operator=(const parts&) = delete;
    ~parts() {
        if (doors != nullptr)
            ::munmap(doors, door_bytes);
    }

    [[nodiscard]] int map(const char* name) const { return bpf_object__find_map_fd_by_name(object.get(), name); }
    done load(bool datagrams);
    done write(const plan& what) const;
    done write_rules(std::span<const capture_rule> rules) const;
    done make_doors(const plan& what);
    done make_door(std::uint32_t index, bool ip6, std::uint16_t port);
    done attach(int cgroup, const std::string& path);
};

done capture::parts::load(bool datagrams) {
    const auto file = readable_object("capture", "capture");
    if (!file)
        return tl::unexpected(file.error());
    libbpf_set_print(nullptr); // what fails is said in words, here
    object.reset(bpf_object__open_file(file->c_str(), nullptr));
    if (!object)
        return failed("cannot read " + *file, errno);
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object.get()) {
        bpf_program__set_autoload(program, datagrams || !of_datagrams(bpf_program__section_name(program)));
    }
    if (const int rc = bpf_object__load(object.get()); rc != 0)
        return failed("the kernel does not load the programs (Linux 5.19 does)", -rc);
    connections = map("connections");
    counters = map("counters");
    door_of = map("door_of");
    free4 = map("free4");
    free6 = map("free6");
    return {};
}

done capture::parts::write(const plan& what) const {
    const auto network = network_cookie();
    if (!network)
        return tl::unexpected(network.error());
    const tandem_capture_settings settings{*network, loopback(false, what.proxy4, IPPROTO_TCP),
                                           loopback(true, what.proxy6, IPPROTO_TCP)};
    const std::uint32_t zero = 0;
    if (bpf_map_update_elem(map("settings"), &zero, &settings, BPF_ANY) != 0)
        return failed("cannot write the settings", errno);
    return write_rules(what.rules);
}

done capture::parts::write_rules(std::span<const capture_rule> rules) const {
    for (const auto& rule : rules) {
        tandem_capture_rule key{};
        key.prefix_length = std::uint32_t{TANDEM_CAPTURE_RULE_FIXED_BITS} + rule.prefix_length;
        key.family = rule.ip6 ? 6 : 4;
        key.protocol = static_cast<std::uint8_t>(rule.kind);
        key.port = htons(rule.port);
        std::memcpy(key.ip, rule.ip.data(), sizeof key.ip);
        const std::uint8_t action = rule.leave ? TANDEM_CAPTURE_LEAVE : TANDEM_CAPTURE_TAKE;
        if (bpf_map_update_elem(map("rules"), &key, &action, BPF_ANY) != 0)
            return failed("cannot write a rule", errno);
    }
    return {};
}

done capture::parts::make_door(std::uint32_t index, bool ip6, std::uint16_t port) {
    doors[index].at = loopback(ip6, port, IPPROTO_UDP);
    const auto at = doors[index].at;
    if (bpf_map_update_elem(map("door_at"), &at, &index, BPF_NOEXIST) != 0 ||
        bpf_map_update_elem(ip6 ? free6 : free4, nullptr, &index, BPF_ANY) != 0)
        return failed("cannot make a door for datagrams", errno);
    return {};
}

done capture::parts::make_doors(const plan& what) {
    if (what.doors4.size() + what.doors6.size() > most_doors)
        return failed("too many doors for datagrams", E2BIG);
    void* const memory = ::mmap(nullptr, door_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map("doors"), 0);
    if (memory == MAP_FAILED)
        return failed("cannot share the doors for datagrams", errno);
    doors = static_cast<tandem_capture_door*>(memory);
    std::uint32_t index = 0;
    for (const bool ip6 : {false, true})
        for (const auto port : ip6 ? what.doors6 : what.doors4)
            if (auto door = make_door(index++, ip6, port); !door)
                return door;
    return {};
}

done capture::parts::attach(int cgroup, const std::string& path) {
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object.get()) {
        if (!bpf_program__autoload(program))
            continue;
        if (auto free = refuse_others(cgroup, path, program); !free)
            return free;
    }
    bpf_object__for_each_program(program, object.get()) {
        if (!bpf_program__autoload(program))
            continue;
        link_ptr link(bpf_program__attach_cgroup(program, cgroup));
        if (!link)
            return tl::unexpected(attach_refusal(bpf_program__section_name(program), path, errno));
        links.push_back(std::move(link));
    }
    return {};
}

capture::capture(std::unique_ptr<parts> p) noexcept : parts_(std::move(p)) {}
capture::capture(capture&& other) noexcept = default;
capture& capture::operator=(capture&& other) noexcept = default;
capture::~capture() = default;

tl::expected<capture, std::string> capture::start(const plan& what) {
    const auto path = find_cgroup(what.cgroup);
    if (!path)
        return tl::unexpected(path.error());
    const descriptor cgroup(::open(path->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!cgroup)
        return failed("cannot open " + *path, errno);
    auto made = std::make_unique<parts>();
    if (auto loaded = made->load(!what.doors4.empty() || !what.doors6.empty()); !loaded)
        return tl::unexpected(loaded.error());
    if (auto written = made->write(what); !written)
        return tl::unexpected(written.error());
    if (auto doors = made->make_doors(what); !doors)
        return tl::unexpected(doors.error());
    if (auto attached = made->attach(cgroup.get(), *path); !attached)
        return tl::unexpected(attached.error());
    return capture(std::move(made));
}

std::optional<capture_place> capture::take(const capture_place& from) noexcept {
    capture_place to{};
    if (bpf_map_lookup_elem(parts_->connections, &from, &to) != 0)
        return std::nullopt;
    bpf_map_delete_elem(parts_->connections, &from);
    return to;
}

capture_counters capture::counters() const {
    std::vector<std::uint64_t> per_cpu(static_cast<std::size_t>(std::max(libbpf_num_possible_cpus(), 1)));
    const auto sum = [&](std::uint32_t which) {
        std::uint64_t all = 0;
        if (bpf_map_lookup_elem(parts_->counters, &which, per_cpu.data()) == 0)
            for (const auto one : per_cpu)
                all += one;
        return all;
    };
    return {sum(TANDEM_CAPTURE_CONNECTIONS), sum(TANDEM_CAPTURE_ELSEWHERE), sum(TANDEM_CAPTURE_UNREADY)};
}

std::optional<capture_place> capture::behind_door(std::uint32_t door) const noexcept {
    std::atomic_thread_fence(std::memory_order_acquire);
    const auto place = parts_->doors[door].destination;
    return place.family == 0 ? std::nullopt : std::optional(place);
}

std::uint32_t capture::door_users(std::uint32_t door) const noexcept {
    return std::atomic_ref(parts_->doors[door].users).load(std::memory_order_acquire);
}

void capture::close_door(std::uint32_t door) noexcept {
    const auto destination = parts_->doors[door].destination;
    std::uint32_t whose = 0; // two programs that came at once: the door that was not found is another
    if (bpf_map_lookup_elem(parts_->door_of, &destination, &whose) == 0 && whose == door)
        bpf_map_delete_elem(parts_->door_of, &destination);
}

void capture::free_door(std::uint32_t door) noexcept {
    parts_->doors[door].destination = {};
    std::atomic_thread_fence(std::memory_order_release);
    const bool ip6 = parts_->doors[door].at.family == 6;
    bpf_map_update_elem(ip6 ? parts_->free6 : parts_->free4, nullptr, &door, BPF_ANY);
}

} // namespace tandem::bpf
