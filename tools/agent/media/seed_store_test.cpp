// SPDX-License-Identifier: Apache-2.0
// Seeds made on the unit: bounds, repeats, XOR, and that they go. Rows RIM-28, RIM-29.
#include "tools/agent/media/seed_store.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

using namespace tandem;
using namespace tandem::agent;
using protocol::secret;
using protocol::status;

namespace {

const auto start = seed_store::clock::time_point(std::chrono::hours(1));

std::string hold(const secret& from) {
    return {from.view().begin(), from.view().end()};
}
std::vector<secret> filled(std::size_t count, std::size_t size, std::uint8_t value) {
    std::vector<secret> made;
    for (std::size_t i = 0; i < count; i++)
        made.emplace_back(std::vector<std::uint8_t>(size, value));
    return made;
}

} // namespace

TEST(Rim28Seeds, BoundsOfWhatIsAsked) {
    seed_store store;
    EXPECT_EQ(store.make(1, 0, 15, 1, start).error(), status::bad_seed);
    EXPECT_EQ(store.make(1, 0, 65, 1, start).error(), status::bad_seed);
    EXPECT_EQ(store.make(1, 0, 16, 0, start).error(), status::bad_tlv);
    EXPECT_EQ(store.make(1, 0, 16, 3, start).error(), status::bad_tlv);
    EXPECT_EQ(store.size(), 0U);
    const auto made = store.make(1, 0, 30, 2, start); // AES_CM_128: key and salt, one a direction
    ASSERT_TRUE(made);
    ASSERT_EQ((*made)->size(), 2U);
    EXPECT_EQ((*made)->at(0).size(), 30U);
    EXPECT_NE(hold((*made)->at(0)), hold((*made)->at(1)));
}

TEST(Rim28Seeds, AskedAgainTheSameElseAlwaysAnother) {
    seed_store store;
    const auto first = hold((*store.make(1, 0, 32, 1, start))->front());
    EXPECT_EQ(hold((*store.make(1, 0, 32, 1, start))->front()), first);
    std::set<std::string> all{first};
    for (std::uint32_t media = 2; media < 66; media++) {
        const auto made = store.make(media, 0, 32, 1, start);
        if (media < 65)
            all.insert(hold((*made)->front()));
        else
            EXPECT_EQ(made.error(), status::no_resources);
    }
    EXPECT_EQ(all.size(), 64U);
    for (std::uint32_t epoch = 1; epoch < 4; epoch++)
        EXPECT_TRUE(store.make(1, epoch, 16, 1, start));
    EXPECT_EQ(store.make(1, 4, 16, 1, start).error(), status::no_resources);
    EXPECT_EQ((*store.make(1, 3, 16, 2, start))->size(), 2U) << "one that is not in use yet may be asked for otherwise";
}

TEST(Rim28Seeds, OwnWholeOrHalf) {
    seed_store store;
    const auto own = hold((*store.make(1, 0, 16, 1, start))->front());
    EXPECT_EQ(hold(store.combine(1, 0, key_source::unit, {})->front()), own);
    const auto xored = store.combine(1, 0, key_source::both, filled(1, 16, 0x5a));
    ASSERT_TRUE(xored);
    for (std::size_t i = 0; i < 16; i++)
        EXPECT_EQ(xored->front().view()[i], static_cast<std::uint8_t>(static_cast<std::uint8_t>(own[i]) ^ 0x5aU));
    EXPECT_EQ(hold(store.combine(1, 0, key_source::gateway, filled(1, 16, 1))->front()), std::string(16, 1));
    EXPECT_EQ(store.combine(1, 0, key_source::unit, filled(1, 16, 1)).error(), status::bad_seed);
    EXPECT_EQ(store.combine(1, 0, key_source::both, filled(1, 17, 1)).error(), status::bad_seed);
    EXPECT_EQ(store.combine(1, 0, key_source::both, filled(2, 16, 1)).error(), status::bad_seed);
    EXPECT_EQ(store.combine(1, 0, key_source::both, {}).error(), status::bad_seed);
    EXPECT_EQ(store.combine(1, 0, key_source::gateway, {}).error(), status::bad_seed);
    EXPECT_EQ(store.combine(1, 1, key_source::unit, {}).error(), status::bad_seed);
    EXPECT_EQ(store.combine(2, 0, key_source::unit, {}).error(), status::bad_seed);
}

TEST(Rim29Seeds, TheyGoWithTheirEpochTheirMediaAndTheirTime) {
    seed_store store;
    ASSERT_TRUE(store.make(1, 0, 16, 1, start) && store.make(1, 1, 16, 1, start) && store.make(2, 0, 16, 1, start));
    store.used(1, 0, key_source::unit);
    EXPECT_TRUE(store.combine(1, 0, key_source::unit, {})) << "asked again, it is still there";
    EXPECT_EQ(store.make(1, 0, 32, 1, start).error(), status::bad_epoch) << "one in use is not replaced";
    store.used(1, 1, key_source::both);
    EXPECT_FALSE(store.combine(1, 0, key_source::unit, {}));
    EXPECT_EQ(store.size(), 2U);
    store.expire(start + seed_store::patience);
    EXPECT_EQ(store.size(), 2U);
    store.expire(start + seed_store::patience + std::chrono::seconds(1));
    EXPECT_EQ(store.size(), 1U) << "media 2 never used its seed; media 1 does";
    store.used(1, 1, key_source::gateway); // the gateway replaced it
    EXPECT_EQ(store.size(), 0U);
    ASSERT_TRUE(store.make(3, 7, 16, 1, start));
    store.forget(3);
    EXPECT_EQ(store.size(), 0U);
}
