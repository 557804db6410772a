// SPDX-License-Identifier: Apache-2.0
// `tandemctl sip`: the tables that the SIP gateway (Kamailio) reads, in a directory of its own: users of the core side
// (HA1), trusted peers. Works without the control plane. A password comes in by stdin or file only and is wiped.
#pragma once

#include <string>

#include "tools/tandemctl/commands.hpp"

namespace tandem::ctl {

struct sip_options {
    std::string directory = "/var/lib/tandem-sip";
    std::string group = "kamailio"; // that Kamailio runs as
    std::string name, realm = "tandem";
    std::string password_file; // empty: stdin
    std::string prefix;
};

// Makes the directory and what is missing in it; a table of registrations that cannot be read is put aside.
result<void> sip_prepare(const settings& s, const sip_options& o);
result<void> sip_user_add(const settings& s, const sip_options& o);
result<void> sip_user_remove(const settings& s, const sip_options& o);
result<void> sip_user_list(const settings& s, const sip_options& o);
result<void> sip_peer_add(const settings& s, const sip_options& o);
result<void> sip_peer_remove(const settings& s, const sip_options& o);
result<void> sip_peer_list(const settings& s, const sip_options& o);

} // namespace tandem::ctl
