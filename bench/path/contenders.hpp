// SPDX-License-Identifier: Apache-2.0
// Who may do the cryptography in path_bench: engines that the real worker is given in place of its own. Tandem's engine
// is made by crypto::make_engine; here are OpenSSL EVP with a context per session, libsrtp2, and no cryptography at
// all.
//
// A context is found by the key's index in the pool, as a peer would find its own by a session handle. RTP only.
// Owner: the benchmark's one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "dataplane/api/contract.hpp"
#include "dataplane/crypto/engine.hpp"

namespace tandem::bench {

// The pool index of the key that an op names.
using index_of_key = std::function<std::uint32_t(const crypto::key_object*)>;

// An engine that keeps something of its own per session.
class session_engine : public crypto::engine {
public:
    explicit session_engine(index_of_key index) : index_(std::move(index)) {}
    // Before the first packet under the key at `index`; sender: it protects.
    virtual void add_session(std::uint32_t index, const api::epoch_key& master, api::suite suite,
                             const crypto::raw_keys& session, bool sender) = 0;

    [[nodiscard]] std::uint32_t fingerprint() const noexcept override { return 0; }
    [[nodiscard]] bool build(api::suite, const crypto::session_keys&, crypto::key_object&) noexcept override {
        return false; // keys are expanded by Tandem's engine; the peers have their own
    }
    void restore(crypto::op&) noexcept override {}

protected:
    index_of_key index_;
};

[[nodiscard]] std::unique_ptr<crypto::engine> make_no_crypto();
[[nodiscard]] std::unique_ptr<session_engine> make_evp(index_of_key index);
[[nodiscard]] std::unique_ptr<session_engine> make_libsrtp(index_of_key index);
[[nodiscard]] const char* libsrtp_backend(); // what the loaded library computes with

void require(bool condition, const char* what); // ends the program: figures would be wrong

} // namespace tandem::bench
