// SPDX-License-Identifier: Apache-2.0
// Expressions and the batch by libmnl. See table.hpp.
#include "controlplane/netfilter/table.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tandem::netfilter {

namespace {

using bytes = rule::bytes;

// Attributes, one after another. Numbers are in network order (nf_tables).
class attributes {
public:
    attributes& number(std::uint16_t type, std::uint32_t value) {
        const std::uint32_t wire = htonl(value);
        return data(type, {reinterpret_cast<const std::uint8_t*>(&wire), sizeof wire});
    }
    attributes& text(std::uint16_t type, std::string_view value) {
        const std::string whole(value); // with its NUL
        return data(type, {reinterpret_cast<const std::uint8_t*>(whole.c_str()), whole.size() + 1});
    }
    attributes& nest(std::uint16_t type, const attributes& inner) { return data(type | NLA_F_NESTED, inner.all_); }
    attributes& data(int type, std::span<const std::uint8_t> value) {
        const nlattr header{static_cast<std::uint16_t>(NLA_HDRLEN + value.size()), static_cast<std::uint16_t>(type)};
        const auto* const first = reinterpret_cast<const std::uint8_t*>(&header);
        all_.insert(all_.end(), first, first + sizeof header);
        all_.insert(all_.end(), value.begin(), value.end());
        all_.resize((all_.size() + 3) / 4 * 4);
        return *this;
    }
    [[nodiscard]] const bytes& all() const noexcept { return all_; }

private:
    bytes all_;
};

attributes value(std::span<const std::uint8_t> raw) {
    return std::move(attributes().data(NFTA_DATA_VALUE, raw));
}

constexpr std::uint32_t reg = NFT_REG_1;

bytes compare(std::uint32_t how, std::span<const std::uint8_t> with) {
    return attributes().number(NFTA_CMP_SREG, reg).number(NFTA_CMP_OP, how).nest(NFTA_CMP_DATA, value(with)).all();
}

bytes load_meta(std::uint32_t key) {
    return attributes().number(NFTA_META_DREG, reg).number(NFTA_META_KEY, key).all();
}

// The messages of one transaction.
class batch {
public:
    void add(std::uint16_t type, std::uint16_t flags, std::uint8_t family, std::uint16_t resource,
             const attributes& what) {
        nlmsghdr header{};
        header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_HDRLEN + sizeof(nfgenmsg) + what.all().size());
        header.nlmsg_type = type;
        header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
        header.nlmsg_seq = ++sequence_;
        const nfgenmsg group{family, NFNETLINK_V0, htons(resource)};
        put(&header, sizeof header);
        put(&group, sizeof group);
        put(what.all().data(), what.all().size());
    }
    void change(std::uint16_t type, std::uint16_t flags, const attributes& what) {
        add(static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type), flags | NLM_F_ACK, NFPROTO_INET, 0, what);
    }
    void limit(std::uint16_t type) { add(type, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, {}); }
    [[nodiscard]] const bytes& all() const noexcept { return all_; }

private:
    void put(const void* data, std::size_t length) {
        const auto* const first = static_cast<const std::uint8_t*>(data);
        all_.insert(all_.end(), first, first + length);
    }
    bytes all_;
    std::uint32_t sequence_ = 0;
};

// Sends, and reads the answers, which are there when send() returns. 0, or the first errno. `rules`: how many were
// told.
int exchange(int fd, const bytes& messages, std::size_t* rules = nullptr) {
    if (::send(fd, messages.data(), messages.size(), 0) < 0)
        return errno;
    bool answered = false;
    int error = 0;
    alignas(nlmsghdr) std::array<std::uint8_t, 16384> answer{};
    for (;;) { // to the last one: none is left for the next question
        const ssize_t got = ::recv(fd, answer.data(), answer.size(), MSG_DONTWAIT);
        if (got < 0)
            return answered ? error : EPROTO;
        int left = static_cast<int>(got);
        for (auto* m = reinterpret_cast<const nlmsghdr*>(answer.data()); mnl_nlmsg_ok(m, left);
             m = mnl_nlmsg_next(m, &left)) {
            answered = true;
            if (rules != nullptr && m->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
                ++*rules;
            if (m->nlmsg_type == NLMSG_ERROR && error == 0)
                error = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(m))->error;
        }
    }
}

attributes chain_of(const std::string& table, const chain& c) {
    attributes where, what;
    where.number(NFTA_HOOK_HOOKNUM, static_cast<std::uint32_t>(c.at))
        .number(NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(c.priority));
    what.text(NFTA_CHAIN_TABLE, table).text(NFTA_CHAIN_NAME, c.name).nest(NFTA_CHAIN_HOOK, where);
    return std::move(what.text(NFTA_CHAIN_TYPE, "filter").number(NFTA_CHAIN_POLICY, NF_ACCEPT));
}

attributes rule_of(const std::string& table, const chain& c, const rule* r) {
    attributes what;
    what.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, c.name);
    if (r == nullptr)
        return what; // all of them
    attributes list;
    for (const auto& [name, attributes_of] : r->expressions()) {
        attributes one;
        one.text(NFTA_EXPR_NAME, name).data(NFTA_EXPR_DATA | NLA_F_NESTED, attributes_of);
        list.nest(NFTA_LIST_ELEM, one);
    }
    return std::move(what.nest(NFTA_RULE_EXPRESSIONS, list));
}

std::string in_words(int error) {
    switch (error) {
    case EPERM:
    case EACCES:
        return "this program needs CAP_NET_ADMIN";
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
    case ENOENT:
    case EINVAL:
        return fmt::format("this kernel lacks what it needs of nf_tables ({}): load nf_tables, nft_fib_inet; Linux "
                           "5.12 or later",
                           std::strerror(error));
    default:
        return std::strerror(error);
    }
}

} // namespace

rule& rule::interface(std::uint32_t key, std::uint32_t comparison, std::string_view name) {
    std::array<std::uint8_t, IFNAMSIZ> padded{};
    std::copy_n(name.begin(), std::min<std::size_t>(name.size(), IFNAMSIZ - 1), padded.begin());
    parts_.emplace_back("meta", load_meta(key));
    parts_.emplace_back("cmp", compare(comparison, padded));
    return *this;
}

rule& rule::from_interface(std::string_view name) {
    return interface(NFT_META_IIFNAME, NFT_CMP_EQ, name);
}
rule& rule::not_from_interface(std::string_view name) {
    return interface(NFT_META_IIFNAME, NFT_CMP_NEQ, name);
}
rule& rule::to_interface(std::string_view name) {
    return interface(NFT_META_OIFNAME, NFT_CMP_EQ, name);
}

rule& rule::address(const prefix& addresses, bool source) {
    const std::uint32_t length = addresses.ipv4 ? 4 : 16;
    const std::uint32_t offset = addresses.ipv4 ? (source ? 12 : 16) : (source ? 8 : 24);
    std::array<std::uint8_t, 16> mask{}, masked{};
    const std::array<std::uint8_t, 16> nothing{};
    for (unsigned bit = 0; bit < addresses.length; ++bit)
        mask[bit / 8] = static_cast<std::uint8_t>(mask[bit / 8] | 0x80U >> bit % 8);
    for (std::size_t i = 0; i < masked.size(); ++i)
        masked[i] = addresses.ip[i] & mask[i];
    const std::uint8_t family = addresses.ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
    parts_.emplace_back("meta", load_meta(NFT_META_NFPROTO));
    parts_.emplace_back("cmp", compare(NFT_CMP_EQ, {&family, 1}));
    parts_.emplace_back("payload", attributes()
                                       .number(NFTA_PAYLOAD_DREG, reg)
                                       .number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER)
                                       .number(NFTA_PAYLOAD_OFFSET, offset)
                                       .number(NFTA_PAYLOAD_LEN, length)
                                       .all());
    parts_.emplace_back("bitwise", attributes()
                                       .number(NFTA_BITWISE_SREG, reg)
                                       .number(NFTA_BITWISE_DREG, reg)
                                       .number(NFTA_BITWISE_LEN, length)
                                       .nest(NFTA_BITWISE_MASK, value(std::span(mask).first(length)))
                                       .nest(NFTA_BITWISE_XOR, value(std::span(nothing).first(length)))
                                       .all());
    parts_.emplace_back("cmp", compare(NFT_CMP_EQ, std::span(masked).first(length)));
    return *this;
}

rule& rule::from(const prefix& addresses) {
    return address(addresses, true);
}
rule& rule::to(const prefix& addresses) {
    return address(addresses, false);
}

rule& rule::not_from_this_host() {
    const std::uint32_t local = RTN_LOCAL; // the register holds it in host order
    parts_.emplace_back("fib", attributes()
                                   .number(NFTA_FIB_DREG, reg)
                                   .number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
                                   .number(NFTA_FIB_FLAGS, NFTA_FIB_F_SADDR)
                                   .all());
    parts_.emplace_back("cmp", compare(NFT_CMP_NEQ, {reinterpret_cast<const std::uint8_t*>(&local), sizeof local}));
    return *this;
}

rule& rule::verdict(std::uint32_t what) {
    attributes code, data;
    data.nest(NFTA_DATA_VERDICT, code.number(NFTA_VERDICT_CODE, what));
    parts_.emplace_back(
        "immediate", attributes().number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT).nest(NFTA_IMMEDIATE_DATA, data).all());
    return *this;
}
rule& rule::accept() {
    return verdict(NF_ACCEPT);
}
rule& rule::drop() {
    return verdict(NF_DROP);
}

tl::expected<table, std::string> table::open(std::string name, life how) {
    descriptor fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
    sockaddr_nl any{};
    any.nl_family = AF_NETLINK;
    if (fd && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0)
        return table(std::move(name), how, std::move(fd));
    return tl::unexpected(fmt::format("cannot make rules of nf_tables: {}", in_words(errno)));
}

tl::expected<void, std::string> table::put(const std::vector<chain>& chains) {
    batch b;
    b.limit(NFNL_MSG_BATCH_BEGIN);
    const std::uint32_t flags = life_ == life::own ? NFT_TABLE_F_OWNER : 0;
    b.change(NFT_MSG_NEWTABLE, NLM_F_CREATE, attributes().text(NFTA_TABLE_NAME, name_).number(NFTA_TABLE_FLAGS, flags));
    for (const chain& c : chains) {
        b.change(NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain_of(name_, c));
        b.change(NFT_MSG_DELRULE, 0, rule_of(name_, c, nullptr));
        for (const rule& r : c.rules)
            b.change(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule_of(name_, c, &r));
    }
    b.limit(NFNL_MSG_BATCH_END);
    if (const int error = exchange(fd_.get(), b.all()); error != 0)
        return tl::unexpected(fmt::format("cannot make table '{}' of nf_tables: {}", name_, in_words(error)));
    return {};
}

bool table::has(std::string_view chain) {
    batch b;
    b.add(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, 0, NFPROTO_INET, 0,
          attributes().text(NFTA_CHAIN_TABLE, name_).text(NFTA_CHAIN_NAME, chain));
    return exchange(fd_.get(), b.all()) == 0;
}

std::size_t table::rules(std::string_view chain) {
    batch b;
    b.add(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP, NFPROTO_INET, 0,
          attributes().text(NFTA_RULE_TABLE, name_).text(NFTA_RULE_CHAIN, chain));
    std::size_t found = 0;
    return exchange(fd_.get(), b.all(), &found) == 0 ? found : 0;
}

} // namespace tandem::netfilter
