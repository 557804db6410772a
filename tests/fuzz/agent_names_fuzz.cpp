// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_agent_names
// Queries to the agent's name server: an answer is a response to that query, of a size that UDP takes (COL-04).
#include <cstdlib>

#include "tools/agent/names/answers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using tandem::agent::name_answers;
    static const name_answers answers = [] {
        name_answers some;
        if (!some.add("a.b", asio::ip::make_address("127.0.0.10")) || !some.add("a.b", asio::ip::make_address("::1")))
            std::abort();
        return some;
    }();
    const auto [what, reply] = answers.look_at({data, size});
    if ((what == name_answers::fate::answered) == reply.empty())
        std::abort();
    if (!reply.empty() && (reply.size() > 512 || reply[0] != data[0] || reply[1] != data[1] || (reply[2] & 0x80) == 0))
        std::abort();
    return 0;
}
