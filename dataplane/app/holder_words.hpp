// SPDX-License-Identifier: Apache-2.0
// What a data plane and its holder say to each other: single letters over a pair of sockets, one end each. The holder's
// end is in the service manager's store too, so that neither notices when the holder is replaced; where nobody has it
// any more, the data plane ends.
#pragma once

namespace tandem::app::holder_words {

// The data plane, several times a second, what holds now.
inline constexpr char waits = 'w';      // ready but for the ports; another one forwards
inline constexpr char takes_over = 't'; // was told to
inline constexpr char forwards = 'f';   // its control thread and all its workers come round
inline constexpr char ends = 'e';       // in order, at somebody's request: nobody shall take over
// Once, and when asked: comes with copies of its AF_XDP sockets (SCM_RIGHTS).
inline constexpr char sockets = 's';
// The holder, once.
inline constexpr char take_over = 'g';
inline constexpr char leave = 'l'; // stop forwarding, and leave the flows to the next
inline constexpr char ask = 'a';   // for the sockets: another holder's data plane

inline constexpr unsigned interval_ms = 250;
inline constexpr unsigned most_sockets = 253; // of one letter: the kernel's SCM_MAX_FD

} // namespace tandem::app::holder_words
