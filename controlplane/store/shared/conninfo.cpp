// SPDX-License-Identifier: Apache-2.0
// What the operator may write as conninfo (postgres.hpp). Apart, because the configuration's reader is fuzzed with it
// and with nothing else of this room.
#include <cstdlib>
#include <fmt/format.h>
#include <libpq-fe.h>
#include <memory>
#include <string_view>

#include "controlplane/store/shared/postgres.hpp"

namespace tandem::store {

tl::expected<void, std::string> check_conninfo(const std::string& conninfo) {
    char* said = nullptr;
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(PQconninfoParse(conninfo.c_str(), &said),
                                                                               PQconninfoFree);
    const std::unique_ptr<char, decltype(&PQfreemem)> words(said, PQfreemem);
    if (!options) // libpq's words would quote what stands there, and that may be a password
        return tl::unexpected(std::string("conninfo is not one: write it as \"host=/run/postgresql dbname=tandem "
                                          "user=tandem\" (PostgreSQL's manual, 34.1.1)"));
    for (const auto* one = options.get(); one->keyword != nullptr; ++one)
        if (one->val != nullptr &&
            (std::string_view(one->keyword) == "password" || std::string_view(one->keyword) == "sslpassword"))
            return tl::unexpected(fmt::format(
                "conninfo holds a {}: take it out; use the local socket with peer authentication, GSSAPI, a client "
                "certificate, or passfile=FILE with mode 0600",
                one->keyword));
    if (std::getenv("PGPASSWORD") != nullptr)
        return tl::unexpected(
            std::string("PGPASSWORD is set in the environment, where others may read it: unset it and "
                        "use passfile=FILE in conninfo"));
    return {};
}

} // namespace tandem::store
