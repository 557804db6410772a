// SPDX-License-Identifier: Apache-2.0
// Contacts: which one counts, what a broken file says, that the file is followed live. Rows RIM-23, RIM-24.
#include "tools/agent/advice/contacts.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include <sys/stat.h>

#include "tools/agent/advice/temporary_directory.hpp"

using namespace tandem;
using namespace tandem::agent;

namespace {

const std::string good = R"([categories]
family = "elevated"
work = "basic"

[[contact]]
address = "+46"
level = "basic"

[[contact]]
address = "+46 70-123 45 67"
name = "Mum"
category = "family"

[[contact]]
address = "+4670"
level = "standard"

[[contact]]
address = "SIP:Bob@Example.COM:5060"
level = "high"

[[contact]]
address = "@example.com"
category = "work"

[[contact]]
address = "bob"
name = "only a name"

[[contact]]
address = "carol"
category = "family"
level = "high"
)";

std::string level(const contact_book& book, std::initializer_list<std::string_view> peers) {
    std::vector<protocol::address_name> names;
    for (const auto peer : peers)
        names.push_back(protocol::parse_address_name(peer).value());
    const auto found = book.find(names);
    return found ? found->level : "";
}
std::string error_of(const std::string& text) {
    const auto book = contact_book::parse(text, "c.toml");
    return book ? "" : book.error();
}

} // namespace

TEST(Rim23Contacts, TheMostSpecificOneThatGivesALevelCounts) {
    const auto book = contact_book::parse(good, "c.toml").value();
    EXPECT_EQ(level(book, {"+46701234567"}), "elevated"); // by its category
    EXPECT_EQ(level(book, {"+46709999999"}), "standard"); // longest prefix
    EXPECT_EQ(level(book, {"+4680"}), "basic");
    EXPECT_EQ(level(book, {"+4"}), "");
    EXPECT_EQ(level(book, {"+47"}), "");
    EXPECT_EQ(level(book, {"sip:bob@example.com"}), "basic"); // another user than Bob: the domain
    EXPECT_EQ(level(book, {"sip:Bob@example.com"}), "high");
    EXPECT_EQ(level(book, {"carol", "sip:Bob@example.com"}), "high");
    EXPECT_EQ(level(book, {"carol", "sip:carol@example.com"}),
              "high");                                               // an id code before a domain; own before category
    EXPECT_EQ(level(book, {"bob", "sip:bob@example.com"}), "basic"); // a name alone gives no level
    EXPECT_EQ(level(book, {"bob"}), "");
    EXPECT_EQ(level(book, {"+46701234567", "sip:x@example.com"}), "elevated"); // a number before a domain
}

TEST(Rim23Contacts, WhatIsWrittenIsReadTheSame) {
    auto book = contact_book::parse(good, "c.toml").value();
    ASSERT_TRUE(book.set("+1 555", {.name = R"(a "quoted" \ name å)", .level = "high"}));
    const auto again = contact_book::parse(book.to_toml(), "c.toml");
    ASSERT_TRUE(again) << again.error();
    EXPECT_EQ(again->contacts(), book.contacts());
    EXPECT_EQ(again->categories(), book.categories());
}

TEST(Rim23Contacts, ABrokenFileSaysLineAndColumn) {
    EXPECT_EQ(error_of("[[contact]]\naddress = \"+0123\"\n").substr(0, 12), "c.toml:2:11:");
    EXPECT_NE(error_of("[[contact]]\nadress = \"+46\"\n").find("c.toml:2:1: unknown key 'adress'"), std::string::npos);
    EXPECT_NE(error_of("contact = 3\n").find("write [[contact]]"), std::string::npos);
    EXPECT_NE(error_of("[contact]\naddress = \"+46\"\n").find("two brackets"), std::string::npos);
    EXPECT_NE(error_of("[[contact]]\nname = \"x\"\n").find("c.toml:1:1: a contact without its address"),
              std::string::npos);
    EXPECT_NE(error_of("[[contact]]\naddress = \"+46\"\nlevel = \"very high\"\n").find("c.toml:3:9: level must be"),
              std::string::npos);
    EXPECT_NE(error_of("[[contact]]\naddress = \"+46\"\nlevel = 3\n").find("c.toml:3:9: level must be text"),
              std::string::npos);
    EXPECT_NE(
        error_of("[[contact]]\naddress = \"+46\"\n[[contact]]\naddress = \"0046\"\n").find("+46 stands there twice"),
        std::string::npos);
    EXPECT_NE(error_of("[categories]\n\"a b\" = \"high\"\n").find("c.toml:2:"), std::string::npos);
    EXPECT_NE(error_of("[[contact]\n").find("c.toml:1:"), std::string::npos);
    EXPECT_NE(error_of("[[contact]]\naddress = \"+46\"\nname = \"a\\u0007b\"\n").find("control characters"),
              std::string::npos);
    EXPECT_EQ(error_of(""), "");
}

TEST(Rim24Contacts, SetChangesWhatIsGivenAndUnsetTakesAway) {
    contact_book book;
    ASSERT_TRUE(book.set("tel:+46-70-1", {.name = "Mum", .level = "high"}));
    const auto changed = book.set("+46701", {.level = "elevated"});
    ASSERT_TRUE(changed);
    EXPECT_EQ(changed->name, "Mum");
    EXPECT_EQ(level(book, {"+46701"}), "elevated");
    EXPECT_FALSE(book.set("+46701", {.level = "no such"}));
    EXPECT_FALSE(book.set("+46x", {.level = "high"}));
    EXPECT_FALSE(book.set("+46701", {.name = std::string(65, 'x')}));
    ASSERT_TRUE(book.set("+46701", {.category = "family", .level = ""}));
    EXPECT_EQ(level(book, {"+46701"}), "");
    ASSERT_TRUE(book.set_category("family", "high"));
    EXPECT_EQ(level(book, {"+46701"}), "high");
    ASSERT_TRUE(book.set_category("family", ""));
    EXPECT_FALSE(book.set_category("family", ""));
    EXPECT_TRUE(book.unset("0046701"));
    EXPECT_FALSE(book.unset("0046701"));
}

TEST(Rim24Contacts, TheFileIsFollowedAndABrokenOneLeavesTheOldInForce) {
    const temporary_directory dir;
    contact_file file(dir.path);
    file.refresh();
    EXPECT_TRUE(file.book().contacts().empty());
    contact_book book;
    ASSERT_TRUE(book.set("+46701", {.level = "high"}));
    ASSERT_TRUE(save_contacts(dir.path, book));
    struct stat info {};
    ASSERT_EQ(::stat((dir.path + "/contacts.toml").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777U, 0600U);
    file.refresh();
    EXPECT_EQ(level(file.book(), {"+46701"}), "high");
    std::ofstream(dir.path + "/contacts.toml") << "[[contact]]\naddress = \"+46701\"\nlevel = \n";
    file.refresh();
    EXPECT_EQ(level(file.book(), {"+46701"}), "high");
    EXPECT_NE(file.error().find("contacts.toml:3:"), std::string::npos) << file.error();
    ASSERT_TRUE(save_contacts(dir.path, contact_book{}));
    file.refresh();
    EXPECT_EQ(level(file.book(), {"+46701"}), "");
    EXPECT_TRUE(file.error().empty());
}

TEST(Rim24Contacts, LinksAreNotFollowed) {
    const temporary_directory dir;
    ASSERT_EQ(::symlink("/etc/passwd", (dir.path + "/contacts.toml").c_str()), 0);
    EXPECT_FALSE(load_contacts(dir.path));
}
