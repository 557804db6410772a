// SPDX-License-Identifier: Apache-2.0
// What strangers choose cannot write lines of its own into the log.
#include <gtest/gtest.h>
#include <sstream>

#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

#include "controlplane/protocol/one_line_log.hpp"

namespace tandem::protocol {
namespace {

TEST(OneLineLog, AnEntryIsOneLineWithoutControlCharacters) {
    std::ostringstream written;
    spdlog::logger log("", std::make_shared<spdlog::sinks::ostream_sink_st>(written));
    log.set_formatter(std::make_unique<one_line_log>("%l %v"));
    log.info("call {}", "x\x1b[2J\x07\r\nfalse line\x7f \t\xc3\xa4");
    log.warn("next");
    EXPECT_EQ(written.str(), "info call x?[2J???false line? \t\xc3\xa4\nwarning next\n");
}

} // namespace
} // namespace tandem::protocol
