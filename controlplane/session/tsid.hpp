// SPDX-License-Identifier: Apache-2.0
// TSIDs are unpredictable: 64 bits from OpenSSL's generator, never 0 nor all ones (ORA-06).
#pragma once

#include "controlplane/session/directory.hpp"

namespace tandem::session {

// Aborts where the generator fails: a predictable TSID is worse than a restart.
[[nodiscard]] tsid random_tsid();

} // namespace tandem::session
