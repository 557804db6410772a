// SPDX-License-Identifier: Apache-2.0
// For tests: a media relay that only writes down what it was asked, and a directory of two units (alice 10.64.0.2 and
// fd64::2, carol 10.64.0.3). One thread.
#pragma once

#include <algorithm>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/callcontrol/ng_server.hpp"

namespace tandem::callcontrol {

struct fake_relay final : media::relay {
    struct one {
        media::media_request asked;
        media::media_locals locals;
        unsigned updates = 0;
    };
    std::map<media::media_id, one> open_media, beside; // beside: what a re-offer took
    // "open c1/0 #1 unit:alice core:core alice>bob", "beside ...", "withdraw #1", "update #1", "close #1 deleted"
    std::vector<std::string> log;
    std::string denied, refuse_open, refuse_update;
    unsigned asked_whether = 0;
    media::shortage short_of = media::shortage::none; // of refuse_open
    std::optional<std::uint32_t> refuse_open_index;   // of this m= line only
    std::optional<std::uint32_t> fails_at;            // this m= line: the relay itself fails
    asio::ip::address core4 = asio::ip::make_address("198.51.100.1"), core6 = asio::ip::make_address("2001:db8::1");
    std::chrono::milliseconds delay{0}; // an update takes this long
    media::media_id next = 1;
    std::uint16_t port = 20'000;

    std::optional<media::error> denies(const media::media_request&) override {
        ++asked_whether;
        return denied.empty() ? std::nullopt : std::optional(media::error{denied});
    }
    asio::awaitable<media::result<media::media_locals>> open(const media::media_request& asked) override {
        if (fails_at == asked.index)
            throw std::bad_alloc();
        if (!refuse_open.empty() && refuse_open_index.value_or(asked.index) == asked.index)
            co_return tl::unexpected(media::error{refuse_open, short_of});
        const auto known = std::find_if(open_media.begin(), open_media.end(), [&](const auto& m) {
            return m.second.asked.call_id == asked.call_id && m.second.asked.branch == asked.branch &&
                   m.second.asked.index == asked.index;
        });
        one made;
        made.asked = asked;
        made.locals.id = known != open_media.end() ? known->first : next++;
        for (const std::size_t s : {0U, 1U}) {
            const bool stays = known != open_media.end() && text(known->second.asked.legs[s]) == text(asked.legs[s]);
            made.locals.legs[s] = stays ? known->second.locals.legs[s] : take(asked.legs[s]);
        }
        log.push_back(fmt::format("{} {}/{} #{} {} {} {}>{}", known != open_media.end() ? "beside" : "open",
                                  asked.call_id, asked.index, made.locals.id, text(asked.legs[0]), text(asked.legs[1]),
                                  asked.caller, asked.callee));
        const auto locals = made.locals;
        (known != open_media.end() ? beside : open_media).insert_or_assign(locals.id, std::move(made));
        co_return locals;
    }
    void withdraw(media::media_id id) override {
        if (beside.erase(id) != 0)
            log.push_back(fmt::format("withdraw #{}", id));
    }

    asio::awaitable<media::result<std::vector<media::media_locals>>>
    update(std::vector<media::media_change> changes) override {
        for (const auto& change : changes)
            log.push_back(fmt::format("update #{}", change.id));
        if (delay.count() > 0) {
            asio::steady_timer timer(co_await asio::this_coro::executor, delay);
            co_await timer.async_wait(asio::use_awaitable);
            for (const auto& change : changes)
                log.push_back(fmt::format("updated #{}", change.id));
        }
        if (!refuse_update.empty())
            co_return tl::unexpected(media::error{refuse_update});
        std::vector<media::media_locals> out;
        for (auto& change : changes) {
            const auto at = open_media.find(change.id);
            if (at == open_media.end())
                co_return tl::unexpected(media::error{"media is over"});
            if (const auto moved = beside.find(change.id); moved != beside.end()) {
                at->second.locals = moved->second.locals;
                beside.erase(moved);
            }
            at->second.asked = std::move(change.request);
            ++at->second.updates;
            auto& locals = out.emplace_back(at->second.locals);
            for (const std::size_t s : {0U, 1U})
                if (at->second.asked.legs[s].rtcp_mux)
                    locals.legs[s].rtcp = locals.legs[s].rtp;
        }
        co_return out;
    }

    asio::awaitable<void> learn_anew(std::vector<media::media_id> ids) override {
        learnt_anew.insert(learnt_anew.end(), ids.begin(), ids.end());
        co_return;
    }
    std::vector<media::media_id> learnt_anew;

    asio::awaitable<void> close(media::media_id id, const std::string& cause) override {
        log.push_back(fmt::format("close #{} {}", id, cause));
        open_media.erase(id);
        co_return;
    }

    [[nodiscard]] std::optional<asio::ip::address> address_named(const std::string&, bool ipv6) const override {
        return ipv6 ? core6 : core4;
    }
    [[nodiscard]] std::optional<media::media_info> info(media::media_id id) const override {
        const auto at = open_media.find(id);
        if (at == open_media.end())
            return {};
        media::media_info out;
        out.id = id;
        out.call_id = at->second.asked.call_id;
        out.legs[0].received.packets = 11;
        out.legs[0].received.bytes = 1100;
        out.legs[1].received.packets = 22;
        out.legs[1].received.bytes = 2200;
        return out;
    }
    [[nodiscard]] std::vector<media::media_info> all() const override { return {}; }

    static std::string text(const media::leg_request& leg) {
        return (leg.kind == media::leg_kind::unit ? "unit:" + leg.unit : "core:" + leg.interface) +
               (leg.ipv6 ? "/6" : "");
    }

    media::leg_local take(const media::leg_request& leg) {
        const media::leg_local out{{address(leg), port}, {address(leg), static_cast<std::uint16_t>(port + 1)}};
        port = static_cast<std::uint16_t>(port + 2);
        return out;
    }

    [[nodiscard]] asio::ip::address address(const media::leg_request& leg) const {
        if (leg.kind == media::leg_kind::unit)
            return asio::ip::make_address(leg.ipv6 ? "fd64::1" : "10.64.0.1");
        return leg.ipv6 ? core6 : core4;
    }
};

struct fake_directory final : session::directory {
    std::vector<session::session_info> units;

    fake_directory() {
        add("alice", {"10.64.0.2", "fd64::2"});
        add("carol", {"10.64.0.3"});
    }
    void add(const std::string& unit, const std::vector<std::string>& addresses) {
        session::session_info info;
        info.id = units.size() + 1;
        info.unit = unit;
        for (const auto& text : addresses)
            info.inner.push_back(asio::ip::make_address(text));
        info.inner_gateway = asio::ip::make_address("10.64.0.1");
        info.up = true;
        units.push_back(info);
    }

    [[nodiscard]] std::optional<session::session_info> by_tsid(session::tsid id) const override {
        return find([&](const auto& u) { return u.id == id; });
    }
    [[nodiscard]] std::optional<session::session_info> by_unit(const std::string& unit) const override {
        return find([&](const auto& u) { return u.unit == unit; });
    }
    [[nodiscard]] std::optional<session::session_info> by_inner(const asio::ip::address& address) const override {
        return find([&](const auto& u) {
            for (const auto& one : u.inner)
                if (one == address)
                    return true;
            return false;
        });
    }
    [[nodiscard]] std::vector<session::session_info> all() const override { return units; }
    bool drop(session::tsid, const std::string&) override { return false; }
    asio::awaitable<tl::expected<protocol::message, session::request_error>>
    request(session::tsid, protocol::message, std::chrono::milliseconds) override {
        co_return tl::unexpected(session::request_error::no_session);
    }

private:
    template <class P>
    [[nodiscard]] std::optional<session::session_info> find(P matches) const {
        for (const auto& u : units)
            if (matches(u))
                return u;
        return {};
    }
};

} // namespace tandem::callcontrol
