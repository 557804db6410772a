// SPDX-License-Identifier: Apache-2.0
// Which interface a media leaves by. Row RIM-33.
#include "tools/agent/device/paths.hpp"

#include <gtest/gtest.h>

using namespace tandem::agent;

namespace {

const path_names names;
const net_link wlan{"wlan0", path_kind::wlan, true}, wwan{"wwan0", path_kind::wwan, true},
    wired{"eth0", path_kind::other, true};

net_link down(net_link of) {
    of.usable = false;
    return of;
}

} // namespace

TEST(Rim33Paths, KindsByName) {
    EXPECT_EQ(names.kind_of("wlan0"), path_kind::wlan);
    EXPECT_EQ(names.kind_of("wlp3s0"), path_kind::wlan);
    EXPECT_EQ(names.kind_of("wwan0"), path_kind::wwan);
    EXPECT_EQ(names.kind_of("wwp0s20u4"), path_kind::wwan);
    EXPECT_EQ(names.kind_of("eth0"), path_kind::other);
    const path_names own{{"radio0"}, {"rmnet*"}};
    EXPECT_EQ(own.kind_of("radio0"), path_kind::wlan);
    EXPECT_EQ(own.kind_of("radio01"), path_kind::other);
    EXPECT_EQ(own.kind_of("rmnet_data0"), path_kind::wwan);
    EXPECT_EQ(own.kind_of("wlan0"), path_kind::other);
}

TEST(Rim33Paths, TheNamedOneWhileItIsUp) {
    const links both{{wired, wlan, wwan}, "eth0", true};
    EXPECT_EQ(choose(path_choice::wwan, both, names, ""), (chosen_path{"wwan0", "wwan0", path_kind::wwan, false}));
    EXPECT_EQ(choose(path_choice::wlan, both, names, "wwan0"), (chosen_path{"wlan0", "wlan0", path_kind::wlan, false}));
    EXPECT_EQ(choose(path_choice::either, both, names, ""), (chosen_path{"", "eth0", path_kind::other, false}));
    const links two{{wlan, {"wlan1", path_kind::wlan, true}}, "wlan0", true};
    EXPECT_EQ(choose(path_choice::wlan, two, names, "wlan1").interface, "wlan1") << "no move without a reason";
}

TEST(Col09Paths, TheChoiceGoesBeforeTheKernelsOwnButNotBeforeWhatIsNamed) {
    links both{{wired, wlan, wwan}, "eth0", true};
    both.preferred = "wwan0";
    EXPECT_EQ(choose(path_choice::either, both, names, ""), (chosen_path{"wwan0", "wwan0", path_kind::wwan, false}));
    EXPECT_EQ(choose(path_choice::wlan, both, names, ""), (chosen_path{"wlan0", "wlan0", path_kind::wlan, false}));
    links without{{wired, down(wlan), wwan}, "eth0", true};
    without.preferred = "wwan0";
    EXPECT_EQ(choose(path_choice::wlan, without, names, ""), (chosen_path{"wwan0", "wwan0", path_kind::wwan, true}));
    without.preferred = "wlan0"; // it went a moment ago
    EXPECT_EQ(choose(path_choice::either, without, names, ""), (chosen_path{"", "eth0", path_kind::other, false}));
}

TEST(Rim33Paths, AnyOtherWhereItIsNot) {
    const links without{{down(wlan), wwan}, "wwan0", true};
    EXPECT_EQ(choose(path_choice::wlan, without, names, "wlan0"), (chosen_path{"", "wwan0", path_kind::wwan, true}));
    // The kernel's route still leads over the link that is down: go by name then.
    const links dead{{down(wlan), wwan}, "wlan0", false};
    EXPECT_EQ(choose(path_choice::wlan, dead, names, "wlan0"), (chosen_path{"wwan0", "wwan0", path_kind::wwan, true}));
    EXPECT_EQ(choose(path_choice::either, dead, names, ""), (chosen_path{"wwan0", "wwan0", path_kind::wwan, false}));
    const links only_wired{{down(wlan), down(wwan), wired}, "", false};
    EXPECT_EQ(choose(path_choice::wwan, only_wired, names, ""), (chosen_path{"eth0", "eth0", path_kind::other, true}));
    const links none{{down(wlan)}, "", false};
    EXPECT_EQ(choose(path_choice::wlan, none, names, ""), (chosen_path{"", "", path_kind::other, true}));
}
