// SPDX-License-Identifier: Apache-2.0
// SDP as it goes in and comes out, as files in golden/: "> command key=value key=[a,b]" with the SDP that is sent, "<"
// with the SDP (or "error: reason") expected, "@ media" with what the relay was told. Keys are random: written
// inline:KEY where checked. UPDATE_GOLDEN=1 writes what comes out; read the difference before committing it.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "controlplane/callcontrol/ng_fixture.hpp"

namespace tandem::callcontrol {
namespace {

struct step {
    std::string command; // the "> ..." line
    std::string sdp;
    std::string expected;
};

std::string crlf(const std::string& text) {
    return std::regex_replace(text, std::regex("\n"), "\r\n");
}

std::string plain(const std::string& text) {
    return std::regex_replace(std::regex_replace(text, std::regex("\r"), ""), std::regex("inline:[A-Za-z0-9+/=]+"),
                              "inline:KEY");
}

std::pair<std::string, std::vector<step>> read(const std::filesystem::path& path) {
    std::ifstream in(path);
    std::string line, head;
    std::vector<step> steps;
    std::string* into = nullptr;
    while (std::getline(in, line)) {
        if (line.starts_with('#')) {
            head += line + "\n";
        } else if (line.starts_with("> ")) {
            steps.push_back({line.substr(2), "", ""});
            into = &steps.back().sdp;
        } else if (line == "<" && !steps.empty()) {
            into = &steps.back().expected;
        } else if (into != nullptr) {
            *into += line + "\n";
        }
    }
    return {head, steps};
}

std::string text_of(const std::optional<media::endpoint>& e) {
    return e ? fmt::format("{}:{}", e->address.to_string(), e->port) : "-";
}

std::string describe(const media::media_request& asked, media::media_id id) {
    std::string out = fmt::format("@ media {} {} {}>{}", id, asked.kind, asked.caller, asked.callee);
    if (!(asked.wish + asked.dialled + asked.caller_domain + asked.callee_domain).empty())
        out += fmt::format(" domains {}>{} wish {} dialled {}", asked.caller_domain, asked.callee_domain, asked.wish,
                           asked.dialled);
    out += asked.clock_rate == 8000 ? "\n" : fmt::format(" {} Hz\n", asked.clock_rate);
    for (const std::size_t s : {0U, 1U}) {
        const auto& leg = asked.legs[s];
        out += fmt::format("@   {} rtp {} rtcp {}{}{}{}{}\n", fake_relay::text(leg), text_of(leg.remote_rtp),
                           text_of(leg.remote_rtcp), leg.rtcp_mux ? " mux" : "", leg.remote_unroutable ? " learn" : "",
                           leg.srtp ? fmt::format(" {}", api::info(leg.srtp->suite).name) : "",
                           asked.forward[s] ? "" : " not-forwarded");
    }
    return out;
}

class Golden : public ng_fixture, public testing::WithParamInterface<std::string> {
protected:
    // What goes out for a step, and what the relay was told by it.
    std::string play(const step& one) {
        std::istringstream words(one.command);
        std::string word;
        words >> word;
        bencode::value request(entries{{"command", word}});
        while (words >> word) {
            const auto equals = word.find('=');
            auto key = word.substr(0, equals);
            const auto text = word.substr(equals + 1);
            if (key == "address-family")
                key = "address family";
            if (text.starts_with('[')) {
                bencode::value items(bencode::list{});
                std::istringstream parts(text.substr(1, text.size() - 2));
                for (std::string part; std::getline(parts, part, ',');)
                    items.push(part);
                request.add(key, items);
            } else {
                request.add(key, text);
            }
        }
        request.add("sdp", crlf(one.sdp));
        const auto before = updates();
        const auto reply = ask(request);
        auto out = plain(std::string(reply.text_of("sdp")));
        if (reply.text_of("result") == "error")
            out = "error: " + std::string(reply.text_of("error-reason")) + "\n";
        for (const auto& [id, media] : relay.open_media)
            if (const auto had = before.find(id);
                media.updates > 0 && (had == before.end() || had->second != media.updates))
                out += describe(media.asked, id);
        return out;
    }

    std::map<media::media_id, unsigned> updates() const {
        std::map<media::media_id, unsigned> out;
        for (const auto& [id, media] : relay.open_media)
            out[id] = media.updates;
        return out;
    }
};

TEST_P(Golden, Sdp) {
    const auto path = std::filesystem::path(GOLDEN_DIR) / GetParam();
    const auto [head, steps] = read(path);
    ASSERT_FALSE(steps.empty());
    std::string written = head;
    for (const auto& one : steps) {
        const auto out = play(one);
        written += "> " + one.command + "\n" + one.sdp + "<\n" + out;
        if (std::getenv("UPDATE_GOLDEN") == nullptr) {
            EXPECT_EQ(out, one.expected) << "> " << one.command;
        }
    }
    if (std::getenv("UPDATE_GOLDEN") != nullptr)
        std::ofstream(path) << written;
}

std::vector<std::string> scenarios() {
    std::vector<std::string> out;
    for (const auto& file : std::filesystem::directory_iterator(GOLDEN_DIR))
        if (file.path().extension() == ".txt")
            out.push_back(file.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
}

INSTANTIATE_TEST_SUITE_P(Files, Golden, testing::ValuesIn(scenarios()), [](const auto& file) {
    auto name = file.param.substr(0, file.param.find('.'));
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

} // namespace
} // namespace tandem::callcontrol
