// SPDX-License-Identifier: Apache-2.0
// Alarms: which stand for which readings, when they are over, and that each sentence says what to do; a certificate's
// end as it is read from files.
#include <fstream>
#include <gtest/gtest.h>
#include <set>

#include "controlplane/app/alarm_rules.hpp"
#include "controlplane/app/alarm_watch.hpp"
#include "controlplane/session/test_ca.hpp"

namespace tandem::control {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t mebibyte = 1 << 20;
const auto now = std::chrono::sys_days(std::chrono::year{2026} / 12 / 1) + 12h;

readings sound() {
    readings r;
    r.now = now;
    r.ports = {{"core", asio::ip::make_address("198.51.100.2"), 100, 100}};
    r.flows = {1000, 0};
    r.disks = {{"/var/lib/tandem", 100'000 * mebibyte, 50'000 * mebibyte}};
    r.certificates = {{"/etc/tandem/gw.pem", now + 300 * 24h, false}};
    return r;
}

using standing = std::map<std::string, std::string>;
standing of(const readings& r, const std::set<std::string>& stood = {}) {
    return judge(r, [&](const char* name) { return stood.contains(name); });
}
std::string only(const readings& r, const std::string& name, const std::set<std::string>& stood = {}) {
    const auto all = of(r, stood);
    EXPECT_EQ(all.size(), 1u);
    return all.contains(name) ? all.at(name) : "(not raised)";
}

TEST(Alarms, NoneWhileAllIsWell) {
    EXPECT_TRUE(of(sound()).empty());
    EXPECT_TRUE(of(readings{}).empty()) << "what is not known is no alarm";
}

TEST(Alarms, TheDataPlaneInItsOwnWords) {
    auto r = sound();
    r.dataplane = "worker 0 of the data plane does not come round: restart tandem-dataplane";
    EXPECT_EQ(only(r, "dataplane"), r.dataplane + "; meanwhile `ping` is not answered with pong and new calls are left "
                                                  "to other gateways");
    r = sound();
    r.restarts = 2;
    EXPECT_TRUE(of(r).empty()) << "an upgrade is no alarm";
    r.restarts = 3;
    EXPECT_EQ(only(r, "dataplane-restarts"), "the data plane was started 3 times within 10 minutes: its log says why");
    r = sound();
    r.carrier = {"port acc0 has no carrier: look at the cable and the switch", "port b"};
    EXPECT_EQ(only(r, "carrier"), "port acc0 has no carrier: look at the cable and the switch; port b");
}

TEST(Alarms, PortsAboveFourFifthsUntilBelowThreeQuarters) {
    auto r = sound();
    r.ports[0].free = 20;
    EXPECT_TRUE(of(r).empty());
    r.ports[0].free = 19;
    EXPECT_EQ(only(r, "ports"),
              "\"core\" (198.51.100.2): 81 of 100 pairs are in use; media ports run out: widen [media] "
              "ports, or add another [[address]] of that name");
    r.ports[0].free = 24;
    EXPECT_TRUE(of(r).empty());
    EXPECT_EQ(of(r, {"ports"}).size(), 1u) << "not over yet";
    r.ports[0].free = 25;
    EXPECT_TRUE(of(r, {"ports"}).empty());
    r.ports.push_back({"access", asio::ip::make_address("192.0.2.1"), 10, 0});
    EXPECT_TRUE(only(r, "ports").starts_with("\"access\" (192.0.2.1): 10 of 10 pairs"));
}

TEST(Alarms, NamesOfAddressesThatTheDataPlaneHasNot) {
    auto r = sound();
    r.unknown_names = {"outside", "trunk"};
    EXPECT_EQ(
        only(r, "addresses"),
        "[media] names \"outside\", \"trunk\", which the data plane does not have: calls that need such an address "
        "are refused; give an [[address]] of dataplane.toml that name, or correct controlplane.toml");
}

TEST(Alarms, FlowTable) {
    auto r = sound();
    r.flows.reserved = 800;
    EXPECT_TRUE(of(r).empty());
    r.flows.reserved = 801;
    EXPECT_NE(only(r, "flow-table").find("raise max_flows"), std::string::npos);
    r.flows.reserved = 760;
    EXPECT_EQ(of(r, {"flow-table"}).size(), 1u);
    r.flows.reserved = 750;
    EXPECT_TRUE(of(r, {"flow-table"}).empty());
}

TEST(Alarms, DiskBelowItsBound) {
    const auto left = [](std::uint64_t total, std::uint64_t free) {
        auto r = sound();
        r.disks = {{"/var/lib/tandem", total * mebibyte, free * mebibyte}};
        return of(r);
    };
    EXPECT_EQ(left(100'000, 1023).size(), 1u) << "a gigabyte";
    EXPECT_TRUE(left(100'000, 1024).empty());
    EXPECT_EQ(left(10'000, 499).size(), 1u) << "a twentieth";
    EXPECT_TRUE(left(10'000, 500).empty());
    EXPECT_EQ(left(700, 63).size(), 1u) << "64 MiB";
    EXPECT_TRUE(left(700, 64).empty());
    EXPECT_TRUE(left(50, 5).empty()) << "a small one";
    EXPECT_EQ(left(50, 4).size(), 1u);
    EXPECT_TRUE(left(0, 0).empty()) << "unreadable";
    EXPECT_EQ(left(10'000, 12).at("disk"),
              "/var/lib/tandem has 12 MiB of 10000 MiB left: make room, or calls and their records cannot be kept");
}

TEST(Alarms, CertificateInItsLastThirtyDaysAndAfter) {
    auto r = sound();
    r.certificates[0].until = now + 30 * 24h;
    EXPECT_TRUE(of(r).empty());
    r.certificates[0].until = now + 30 * 24h - 1s;
    EXPECT_EQ(only(r, "certificate"), "/etc/tandem/gw.pem ends in 29 days (2026-12-31): renew it and restart "
                                      "tandem-controlplane (calls go on)");
    r.certificates[0].renewed = true;
    EXPECT_EQ(only(r, "certificate"), "/etc/tandem/gw.pem ends in 29 days (2026-12-31): the file is renewed already, "
                                      "restart tandem-controlplane (calls go on)");
    r.certificates[0] = {"/etc/tandem/gw.pem", now - 24h, false};
    EXPECT_TRUE(only(r, "certificate").starts_with("/etc/tandem/gw.pem has ended (2026-11-30): nobody"));
}

TEST(Alarms, EveryNameIsJudgedOnce) {
    auto r = sound();
    r.dataplane = "x";
    r.restarts = 9;
    r.carrier = {"x"};
    r.ports[0].free = 0;
    r.unknown_names = {"x"};
    r.flows.reserved = 1000;
    r.disks[0].free = 0;
    r.certificates[0].until = now;
    const auto all = of(r);
    EXPECT_EQ(all.size(), judged_alarms.size());
    for (const char* name : judged_alarms)
        EXPECT_TRUE(all.contains(name)) << name;
}

TEST(Certificates, TheFirstOfAFileToEnd) {
    const session::testing::test_ca ca;
    const auto end = certificates_end(ca.ca());
    ASSERT_TRUE(end.has_value());
    const auto left = *end - std::chrono::system_clock::now();
    EXPECT_GT(left, 3500s);
    EXPECT_LE(left, 3600s);
    EXPECT_FALSE(certificates_end("/nonexistent").has_value());
    const std::string empty = ca.ca() + ".empty";
    std::ofstream(empty) << "no certificate\n";
    EXPECT_FALSE(certificates_end(empty).has_value());
}

} // namespace
} // namespace tandem::control
