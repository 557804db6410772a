// SPDX-License-Identifier: Apache-2.0
// TSIDs. See tsid.hpp.
#include "controlplane/session/tsid.hpp"

#include <cstdlib>
#include <openssl/rand.h>
#include <spdlog/spdlog.h>

namespace tandem::session {

tsid random_tsid() {
    for (;;) {
        tsid id = 0;
        if (RAND_bytes(reinterpret_cast<unsigned char*>(&id), sizeof(id)) != 1) {
            spdlog::critical("OpenSSL's random generator failed: no session can be made");
            std::abort();
        }
        if (id != 0 && id != protocol::no_tsid)
            return id;
    }
}

} // namespace tandem::session
