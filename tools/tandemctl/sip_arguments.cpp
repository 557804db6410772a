// SPDX-License-Identifier: Apache-2.0
// The command line of sip.
#include "tools/tandemctl/arguments.hpp"

namespace tandem::ctl {
namespace {

using sip_verb = result<void> (*)(const settings&, const sip_options&);

void chosen(CLI::App* verb, arguments& a, sip_verb run) {
    verb->add_option("--dir", a.sip.directory, "the SIP gateway's tables")->capture_default_str();
    verb->callback([&a, run] { a.chosen = [&a, run] { return run(a.common, a.sip); }; });
}

void user_verbs(CLI::App& sip, arguments& a) {
    auto* user = sip.add_subcommand("user", "who may register and call on the core side")->require_subcommand(1);
    auto* add = user->add_subcommand("add", "enrols a user, or gives it another password; the password comes by stdin");
    add->add_option("NAME", a.sip.name, "as in From and To")->required();
    add->add_option("--realm", a.sip.realm, "that Kamailio asks for (-A REALM)")->capture_default_str();
    add->add_option("--password-file", a.sip.password_file, "instead of stdin; its first line");
    chosen(add, a, sip_user_add);
    auto* remove = user->add_subcommand("remove", "forgets a user");
    remove->add_option("NAME", a.sip.name)->required();
    remove->add_option("--realm", a.sip.realm)->capture_default_str();
    chosen(remove, a, sip_user_remove);
    chosen(user->add_subcommand("list", "users and realms"), a, sip_user_list);
}

void peer_verbs(CLI::App& sip, arguments& a) {
    auto* peer = sip.add_subcommand("peer", "trusted by address: trunks without digest")->require_subcommand(1);
    auto* add = peer->add_subcommand("add", "trusts an address or a prefix");
    add->add_option("PREFIX", a.sip.prefix, "198.51.100.7 or 2001:db8::/64")->required();
    chosen(add, a, sip_peer_add);
    auto* remove = peer->add_subcommand("remove", "no longer");
    remove->add_option("PREFIX", a.sip.prefix, "as in `sip peer list`")->required();
    chosen(remove, a, sip_peer_remove);
    chosen(peer->add_subcommand("list", "trusted peers"), a, sip_peer_list);
}

} // namespace

void sip_verbs(CLI::App& app, arguments& a) {
    auto* sip = app.add_subcommand("sip", "what the SIP gateway (Kamailio) knows")->require_subcommand(1);
    auto* prepare = sip->add_subcommand("prepare", "makes its directory and what is missing there");
    prepare->add_option("--group", a.sip.group, "that Kamailio runs as")->capture_default_str();
    chosen(prepare, a, sip_prepare);
    user_verbs(*sip, a);
    peer_verbs(*sip, a);
}

} // namespace tandem::ctl
