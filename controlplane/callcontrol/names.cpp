// SPDX-License-Identifier: Apache-2.0
// Whose name a party may say. Part of the server's inside (state.hpp).
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/callcontrol/state.hpp"

namespace tandem::callcontrol {

// A unit's leg speaks as its id code or as a name of its own, a caller elsewhere not as any unit: somebody else's name
// is not asked for its level, not in the record and not shown. Of a unit's leg the id code stands in its place, of
// another nothing. Who is called elsewhere is the proxy's to say: a unit may be away from its agent.
outcome<void> server::state::settle_name(call& c, side s, const place& where) {
    if (!settings.unit_of)
        return {};
    const bool calls = s == c.caller_side(), unit = where.kind == media::leg_kind::unit;
    auto& name = calls ? c.caller : c.callee;
    if (name.empty()) {
        if (unit)
            name = where.unit;
        return {};
    }
    const auto owner = settings.unit_of(name);
    if (unit ? owner == where.unit : owner.empty() || !calls)
        return {};
    ++count.foreign_names;
    const auto whose = owner.empty() ? "nobody's that is known" : fmt::format("unit {}'s", owner);
    if (settings.strict_names)
        return tl::unexpected(reason(fmt::format(
            "{} says the name \"{}\", which is {}: `tandemctl unit name add` makes a name a unit's own",
            unit ? fmt::format("Unit \"{}\"", where.unit) : std::string("A caller who is no unit"), name, whose)));
    spdlog::info("ng: call \"{}\": the name of the {} is {}, it counts as {}", c.call_id, calls ? "caller" : "callee",
                 whose, unit ? where.unit : "nobody");
    name = unit ? where.unit : std::string();
    (calls ? c.caller_domain : c.callee_domain).clear(); // of that name
    return {};
}

} // namespace tandem::callcontrol
