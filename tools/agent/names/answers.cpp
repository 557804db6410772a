// SPDX-License-Identifier: Apache-2.0
// See answers.hpp. Messages are read and written by ldns.
#include "tools/agent/names/answers.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>

#include <ldns/ldns.h>

namespace tandem::agent {
namespace {

constexpr std::uint32_t lifetime_s = 30; // of an answer in a program's own memory
constexpr std::size_t header_size = 12;  // of a message (RFC 1035 4.1.1)

template <auto Free>
struct freed {
    template <class T>
    void operator()(T* one) const noexcept {
        Free(one);
    }
};
using packet = std::unique_ptr<ldns_pkt, freed<ldns_pkt_free>>;
using memory = std::unique_ptr<std::uint8_t, freed<std::free>>;

std::string small(std::string_view name) {
    if (name.ends_with('.'))
        name.remove_suffix(1);
    std::string out(name);
    std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

std::string name_of(const ldns_rr* question) {
    const std::unique_ptr<char, freed<std::free>> text(ldns_rdf2str(ldns_rr_owner(question)));
    return text ? small(text.get()) : std::string();
}

// Of A or AAAA; what it is given becomes the record's.
ldns_rr* record(const ldns_rr* question, ldns_rdf_type kind, std::span<const std::uint8_t> address) {
    ldns_rr* const rr = ldns_rr_new();
    ldns_rr_set_owner(rr, ldns_rdf_clone(ldns_rr_owner(question)));
    ldns_rr_set_type(rr, ldns_rr_get_type(question));
    ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
    ldns_rr_set_ttl(rr, lifetime_s);
    ldns_rr_push_rdf(rr, ldns_rdf_new_frm_data(kind, address.size(), address.data()));
    return rr;
}

// Of the first one, with its type and class.
std::size_t end_of_question(std::span<const std::uint8_t> query) noexcept {
    auto at = header_size;
    while (at < query.size() && query[at] != 0)
        at += query[at] + 1U;
    return std::min(at + 5, query.size());
}

} // namespace

bool is_host_name(std::string_view text) {
    if (text.empty() || text.size() > 253)
        return false;
    std::error_code no_address;
    (void)asio::ip::make_address_v4(std::string(text), no_address);
    if (!no_address)
        return false;
    for (std::size_t at = 0; at <= text.size();) {
        const auto label = text.substr(at, text.find('.', at) - at);
        const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_'; };
        if (label.empty() || label.size() > 63 || !std::ranges::all_of(label, plain))
            return false;
        at += label.size() + 1;
    }
    return true;
}

bool is_answer_to(std::span<const std::uint8_t> query, std::span<const std::uint8_t> reply) noexcept {
    if (query.size() < header_size || reply.size() < header_size || (reply[2] & 0x80) == 0 ||
        !std::ranges::equal(reply.first(2), query.first(2)))
        return false;
    if (reply[4] == 0 && reply[5] == 0)
        return true;
    const auto end = end_of_question(query);
    const auto same = [](std::uint8_t x, std::uint8_t y) { return std::tolower(x) == std::tolower(y); };
    return reply.size() >= end && std::ranges::equal(query.subspan(4, 2), reply.subspan(4, 2)) && // how many
           std::ranges::equal(query.subspan(header_size, end - header_size),
                              reply.subspan(header_size, end - header_size), same);
}

bool name_answers::add(std::string_view name, const asio::ip::address& address) {
    auto& known = of_[small(name)];
    const auto set = [](auto& place, const auto& value) {
        const bool free = !place || *place == value;
        place = free ? value : *place;
        return free;
    };
    return address.is_v6() ? set(known.six, address.to_v6()) : set(known.four, address.to_v4());
}

name_answers::verdict name_answers::look_at(std::span<const std::uint8_t> query) const {
    ldns_pkt* read = nullptr;
    if (ldns_wire2pkt(&read, query.data(), query.size()) != LDNS_STATUS_OK)
        return {fate::malformed, {}};
    const packet asked(read);
    if (ldns_pkt_qr(asked.get()))
        return {fate::malformed, {}};
    const ldns_rr_list* const questions = ldns_pkt_question(asked.get());
    if (ldns_pkt_get_opcode(asked.get()) != LDNS_PACKET_QUERY || ldns_rr_list_rr_count(questions) != 1)
        return {fate::passed_on, {}};
    const ldns_rr* const question = ldns_rr_list_rr(questions, 0);
    const auto known = of_.find(name_of(question));
    if (ldns_rr_get_class(question) != LDNS_RR_CLASS_IN || known == of_.end())
        return {fate::passed_on, {}};

    const packet reply(ldns_pkt_new());
    ldns_pkt_set_id(reply.get(), ldns_pkt_id(asked.get()));
    ldns_pkt_set_rd(reply.get(), ldns_pkt_rd(asked.get()));
    ldns_pkt_set_qr(reply.get(), true);
    ldns_pkt_set_aa(reply.get(), true);
    ldns_pkt_set_ra(reply.get(), true);
    ldns_pkt_push_rr(reply.get(), LDNS_SECTION_QUESTION, ldns_rr_clone(question));
    const auto& [four, six] = known->second;
    if (ldns_rr_get_type(question) == LDNS_RR_TYPE_A && four)
        ldns_pkt_push_rr(reply.get(), LDNS_SECTION_ANSWER, record(question, LDNS_RDF_TYPE_A, four->to_bytes()));
    if (ldns_rr_get_type(question) == LDNS_RR_TYPE_AAAA && six)
        ldns_pkt_push_rr(reply.get(), LDNS_SECTION_ANSWER, record(question, LDNS_RDF_TYPE_AAAA, six->to_bytes()));
    std::uint8_t* wire = nullptr;
    std::size_t size = 0;
    if (ldns_pkt2wire(&wire, reply.get(), &size) != LDNS_STATUS_OK)
        return {fate::malformed, {}};
    const memory octets(wire);
    return {fate::answered, {wire, wire + size}};
}

} // namespace tandem::agent
