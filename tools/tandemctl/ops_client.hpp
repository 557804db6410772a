// SPDX-License-Identifier: Apache-2.0
// One connection to the control plane's ops socket (controlplane/app/ops_protocol.hpp): a request, its answer.
// Blocking, with a time limit; the tool has one thread.
#pragma once

#include <chrono>
#include <string>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

namespace tandem::ctl {

using json = nlohmann::ordered_json;

// The tool's exit status is the failure's kind.
enum class failure : int { failed = 1, usage = 2, unreachable = 3 };

struct error {
    failure kind = failure::failed;
    std::string text;
};
template <class T>
using result = tl::expected<T, error>;
[[nodiscard]] inline tl::unexpected<error> unreachable(std::string text) {
    return tl::unexpected(error{failure::unreachable, std::move(text)});
}
[[nodiscard]] inline tl::unexpected<error> failed(std::string text) {
    return tl::unexpected(error{failure::failed, std::move(text)});
}

class ops_client {
public:
    explicit ops_client(std::string run_dir, std::chrono::milliseconds limit = std::chrono::seconds(15));

    [[nodiscard]] result<json> request(const std::string& verb, const json& arguments) const;
    // `line` is a complete request; the caller wipes it (it may carry a key).
    [[nodiscard]] result<json> send_line(const std::string& line) const;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    std::string path_;
    std::chrono::milliseconds limit_;
};

} // namespace tandem::ctl
