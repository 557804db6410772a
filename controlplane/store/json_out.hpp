// SPDX-License-Identifier: Apache-2.0
// The writer of JSON, which other rooms use too, under this room's name for it. Pure; any thread.
#pragma once

#include "controlplane/protocol/json_out.hpp"

namespace tandem::store {

class json_out : public protocol::json_out {}; // a type of this room: its write()s are found in templates too

} // namespace tandem::store
