// SPDX-License-Identifier: Apache-2.0
#include "controlplane/link/endpoint.hpp"

#include <charconv>

namespace tandem::link {

std::optional<endpoint> parse_endpoint(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    std::string_view host = text.substr(0, colon);
    const std::string_view port_text = text.substr(colon + 1);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed)
        host = host.substr(1, host.size() - 2);
    std::uint16_t port = 0;
    const auto [end, code] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
    if (code != std::errc{} || end != port_text.data() + port_text.size() || port == 0)
        return std::nullopt;
    std::error_code error;
    const auto address = asio::ip::make_address(std::string(host), error);
    if (error || address.is_v6() != bracketed)
        return std::nullopt;
    return endpoint{address, port};
}

} // namespace tandem::link
