// SPDX-License-Identifier: Apache-2.0
// A standby: a data plane that has done everything that takes long and touches nothing of the one in force (libraries,
// EAL, packet buffers, state memory mapped), and waits for the holder's word. It takes over in the time that its ports
// need. Owner: the main thread, before any worker runs.
#pragma once

namespace tandem::app {

// Waits on the holder's pipe. True: take over now. False: end (SIGTERM, or the holder is gone).
[[nodiscard]] bool stand_by(int holder_fd, int signals);

} // namespace tandem::app
