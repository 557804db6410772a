// SPDX-License-Identifier: Apache-2.0
// Items of the contract from the JSON of tests (contract.cpp says how that looks). Throws where it cannot be read.
#pragma once

#include <algorithm>
#include <arpa/inet.h>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dataplane/api/contract.hpp"

namespace tandem::tests {

class contract_items {
protected:
    using json = nlohmann::json;

    static std::vector<std::uint8_t> hex(const std::string& text) {
        std::vector<std::uint8_t> bytes;
        for (std::size_t i = 0; i + 1 < text.size(); i += 2)
            bytes.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
        return bytes;
    }

    static api::net_address address(const std::string& text) {
        api::net_address a{};
        if (text.empty())
            return a;
        const auto colon = text.rfind(':');
        std::string host = text.substr(0, colon);
        if (!host.empty() && host.front() == '[')
            host = host.substr(1, host.size() - 2);
        a.port = static_cast<std::uint16_t>(std::stoul(text.substr(colon + 1)));
        a.ip[10] = a.ip[11] = 0xff;
        if (inet_pton(AF_INET, host.c_str(), a.ip + 12) != 1 && inet_pton(AF_INET6, host.c_str(), a.ip) != 1)
            throw std::runtime_error("not an address: " + text);
        return a;
    }

    api::flow_id id(const std::string& text) const {
        if (text.empty())
            return 0;
        const auto colon = text.rfind(':');
        const std::string where = text.substr(0, colon);
        const auto port = static_cast<std::uint16_t>(std::stoul(text.substr(colon + 1)));
        const auto found = addresses_.find(where);
        return api::make_flow_id(
            found != addresses_.end() ? found->second : static_cast<std::uint32_t>(std::stoul(where)), port);
    }

    static api::suite suite(const std::string& name) {
        const auto* row = api::find_suite(std::string_view(name));
        if (row == nullptr)
            throw std::runtime_error("no such suite: " + name);
        return row->id;
    }

    static api::source_policy policy(const std::string& name) {
        return name == "signalled"  ? api::source_policy::signalled
               : name == "learned"  ? api::source_policy::learned
               : name == "followed" ? api::source_policy::followed
                                    : api::source_policy::authenticated;
    }

    api::flow_config config(const json& j) const {
        api::flow_config c{};
        c.id = id(j.at("id"));
        c.reverse = id(j.value("reverse", ""));
        c.tag = j.value("tag", std::uint64_t{0});
        c.in = {suite(j.value("in", "RTP")), j.value("in_mki", std::uint8_t{0}), 0};
        c.out = {suite(j.value("out", "RTP")), j.value("out_mki", std::uint8_t{0}), 0};
        c.carries = j.value("carries", std::uint8_t{3});
        c.source.policy = policy(j.value("source", c.in.suite == api::suite::clear ? "signalled" : "authenticated"));
        c.dscp = j.value("dscp", std::uint8_t{0});
        c.timeout_s = j.value("timeout", std::uint16_t{0});
        c.flags = j.value("flags", std::uint8_t{0});
        c.source.signalled = address(j.value("signalled", ""));
        c.source.received_from = address(j.value("received_from", ""));
        c.source.window_ms = j.value("window_ms", std::uint16_t{0});
        c.source.strict_port = j.value("strict_port", std::uint8_t{0});
        c.source.anew = j.value("anew", std::uint8_t{0});
        c.route.rtp_out = id(j.value("rtp_out", j.value("reverse", "")));
        c.route.rtcp_out = id(j.value("rtcp_out", j.value("reverse", "")));
        c.route.rtp_remote = address(j.value("rtp_remote", ""));
        c.route.rtcp_remote = address(j.value("rtcp_remote", j.value("rtp_remote", "")));
        return c;
    }

    api::flow_update change(const json& j) const {
        const api::flow_config c = config(j);
        api::flow_update u{};
        u.id = c.id;
        u.mask = j.at("mask").get<std::uint8_t>();
        u.source = c.source;
        u.flags = c.flags;
        u.dscp = c.dscp;
        u.timeout_s = c.timeout_s;
        u.reverse = c.reverse;
        u.route = c.route;
        return u;
    }

    api::flow_replacement replacement(const json& j) const {
        api::flow_replacement r{};
        r.config = config(j);
        r.group = j.value("group", std::uint32_t{1});
        const auto from = [&](const char* name, api::flow_id(&to)[2]) {
            const auto names = j.value(name, json::array());
            for (std::size_t i = 0; i < names.size(); ++i)
                to[i] = id(names.at(i));
        };
        from("in_from", r.in_from);
        from("out_from", r.out_from);
        const auto keys = [&](const std::string& which, api::key_choice& choice, api::epoch_key& to) {
            if (j.contains(which + "_key") || j.value(which + "_fresh", false))
                choice = api::key_choice::fresh;
            if (j.contains(which + "_key")) {
                json with = j.at(which + "_key");
                with["id"] = j.at("id");
                with["side"] = which;
                to = key(with);
            }
        };
        keys("in", r.in_keys, r.in_key);
        keys("out", r.out_keys, r.out_key);
        return r;
    }

    api::stream_item stream(const json& j) const {
        api::stream_item s{};
        s.id = j.at("id").is_string() ? id(j.at("id")) : j.at("id").get<api::flow_id>();
        s.side = side(j);
        s.state.ssrc = j.at("ssrc").get<std::uint32_t>();
        s.state.offset = j.value("offset", std::uint16_t{0});
        const auto window = [&](const char* name, api::window_state& to) {
            const auto numbers = j.value(name, std::vector<std::uint64_t>{0, 0, 0});
            to = {numbers.at(0), {numbers.at(1), numbers.at(2)}};
        };
        window("rtp", s.state.rtp);
        window("rtcp", s.state.rtcp);
        return s;
    }

    api::flow_ref ref(const json& j) const { return {id(j.get<std::string>())}; }

    static api::side side(const json& j) { return j.at("side") == "in" ? api::side::in : api::side::out; }

    api::epoch_key key(const json& j) const {
        api::epoch_key k{};
        k.id = id(j.at("id"));
        k.side = side(j);
        k.epoch = j.at("epoch").get<std::uint32_t>();
        k.mki = j.value("mki", k.epoch);
        const auto key = hex(j.at("key")), salt = hex(j.at("salt"));
        k.key_length = static_cast<std::uint8_t>(key.size());
        k.salt_length = static_cast<std::uint8_t>(salt.size());
        std::memcpy(k.key, key.data(), std::min(key.size(), sizeof k.key));
        std::memcpy(k.salt, salt.data(), std::min(salt.size(), sizeof k.salt));
        return k;
    }

    api::epoch_ref epoch(const json& j) const {
        return {id(j.at("id")), j.at("epoch").get<std::uint32_t>(), side(j), {}};
    }

    std::map<std::string, std::uint32_t> addresses_; // by the configuration's name
};

} // namespace tandem::tests
