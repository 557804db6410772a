// SPDX-License-Identifier: Apache-2.0
// Frames of the earlier log (old_log.hpp): length, number, hash, bytes. What does not fit the hash or the order ends
// it.
#include "controlplane/store/local/old_log.hpp"

#include <cstring>
#include <fstream>
#include <sstream>

#include "controlplane/store/local/write_log.hpp"

namespace tandem::store {

void read_old_log(const std::string& path, std::uint64_t of, std::uint64_t after,
                  const std::function<void(std::uint64_t, std::string_view)>& each) {
    struct frame {
        std::uint64_t length, number, hash;
    };
    std::ifstream file(path, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    const auto text = content.str();
    std::string_view rest = text;
    std::uint64_t expected = 0;
    frame head{};
    while (rest.size() >= sizeof head) {
        std::memcpy(&head, rest.data(), sizeof head);
        rest.remove_prefix(sizeof head);
        if (head.length > rest.size() || (expected != 0 && head.number != expected))
            return;
        const auto bytes = rest.substr(0, head.length);
        if (log_hash(of ^ head.number, bytes) != head.hash)
            return;
        if (head.number > after)
            each(head.number, bytes);
        rest.remove_prefix(head.length);
        expected = head.number + 1;
    }
}

} // namespace tandem::store
