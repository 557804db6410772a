// SPDX-License-Identifier: Apache-2.0
// See blast.hpp.
#include "bench/load/blast.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include "bench/load/socket.hpp"
#include <blast.skel.h>

namespace tandem::load {

namespace {
constexpr int runs_a_call = 1 << 30; // until the signal
}

blaster::blaster(const options& given, std::span<const std::uint8_t> frame, const std::vector<std::uint16_t>& ports,
                 unsigned frame_interface)
    : program_(nullptr), frame_(frame.begin(), frame.end()) {
    libbpf_set_print(nullptr);
    program_ = blast_bpf__open();
    if (program_ == nullptr)
        throw failure("--xdp: the program cannot be read");
    netns_ = open_netns(given.from_netns.empty() ? "/proc/self/ns/net" : given.from_netns);
    program_->rodata->interface = frame_interface;
    program_->rodata->streams = given.streams;
    program_->rodata->first_sequence = given.first_sequence;
    program_->rodata->first_ssrc = given.ssrc;
    program_->rodata->samples = given.payload;
    program_->rodata->sources = given.sources;
    program_->rodata->first_source = 10u << 24 | 1;
    program_->rodata->port_count = static_cast<std::uint32_t>(ports.size());
    std::copy(ports.begin(), ports.end(), program_->bss->ports);
    if (blast_bpf__load(program_) != 0)
        throw failure(fmt::format("--xdp: the kernel refuses the program: {} (needs root)", std::strerror(errno)));
}

blaster::~blaster() {
    if (thread_.joinable())
        thread_.join();
    blast_bpf__destroy(program_);
    close(netns_);
}

void blaster::start(std::uint64_t begin_ns, std::uint64_t end_ns, double rate) {
    program_->bss->due_ps = begin_ns * 1000;
    program_->bss->end_ns = end_ns;
    program_->bss->step_ps = rate > 0 ? static_cast<std::uint64_t>(1e12 / rate) : 0;
    struct sigaction quiet {};
    quiet.sa_handler = [](int) {}; // without SA_RESTART: it only ends the call
    sigaction(SIGUSR1, &quiet, nullptr);
    thread_ = std::thread([this, end_ns] { run(end_ns); });
}

void blaster::run(std::uint64_t end_ns) {
    if (setns(netns_, CLONE_NEWNET) != 0) { // the frames are redirected in the thread's own namespace
        wrong_ = std::strerror(errno);
        return;
    }
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame_.data(), .data_size_in = static_cast<__u32>(frame_.size()),
                .repeat = runs_a_call, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);
    while (now_ns() < end_ns && wrong_.empty())
        if (bpf_prog_test_run_opts(bpf_program__fd(program_->progs.blast), &run) != 0 && errno != EINTR)
            wrong_ = std::strerror(errno);
}

std::uint64_t blaster::finish() {
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
    if (!wrong_.empty())
        throw failure(fmt::format("--xdp: {}: Linux 5.18 is needed", wrong_));
    return program_->bss->next;
}

} // namespace tandem::load
