// SPDX-License-Identifier: Apache-2.0
// Test support: a certificate authority in memory that writes PEM files to a directory of its own. Only for *_test.cpp.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "controlplane/protocol/tls.hpp"

namespace tandem::session::testing {

class test_ca {
public:
    test_ca() : key_(EVP_EC_gen("P-256"), &EVP_PKEY_free) {
        std::string pattern = (std::filesystem::temp_directory_path() / "tandem-ca-XXXXXX").string();
        directory_ = ::mkdtemp(pattern.data());
        certificate_ = make("test CA", key_.get(), nullptr, key_.get(), "critical,CA:TRUE", nullptr);
        write(certificate_.get(), "ca.pem");
    }
    test_ca(const test_ca&) = delete;
    test_ca& operator=(const test_ca&) = delete;
    ~test_ca() { std::filesystem::remove_all(directory_); }

    // usage: "serverAuth" or "clientAuth"; names: of its subjectAltName, such as "DNS:gw.example"
    protocol::certificate_files issue(const std::string& name, const char* usage, const char* names = nullptr) {
        const key own(EVP_EC_gen("P-256"), &EVP_PKEY_free);
        const auto leaf = make(name, own.get(), certificate_.get(), key_.get(), "CA:FALSE", usage, names);
        write(leaf.get(), name + ".pem");
        FILE* f = std::fopen((directory_ / (name + ".key")).c_str(), "w");
        PEM_write_PrivateKey(f, own.get(), nullptr, nullptr, 0, nullptr, nullptr);
        std::fclose(f);
        return {directory_ / (name + ".pem"), directory_ / (name + ".key"), ca()};
    }
    [[nodiscard]] std::string ca() const { return directory_ / "ca.pem"; }
    // A list that revokes this certificate, or nobody's, and is to be renewed so many seconds from now.
    std::string crl(const std::string& revoked_file, long renewed = 3600) {
        const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> list(X509_CRL_new(), &X509_CRL_free);
        X509_CRL_set_version(list.get(), 1);
        X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
        const std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)> now(X509_gmtime_adj(nullptr, -7200),
                                                                        &ASN1_TIME_free);
        X509_CRL_set1_lastUpdate(list.get(), now.get());
        const std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)> next(X509_gmtime_adj(nullptr, renewed),
                                                                         &ASN1_TIME_free);
        X509_CRL_set1_nextUpdate(list.get(), next.get());
        if (!revoked_file.empty()) {
            FILE* f = std::fopen(revoked_file.c_str(), "r");
            const certificate leaf(PEM_read_X509(f, nullptr, nullptr, nullptr), &X509_free);
            std::fclose(f);
            X509_REVOKED* entry = X509_REVOKED_new();
            X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(leaf.get()));
            X509_REVOKED_set_revocationDate(entry, now.get());
            X509_CRL_add0_revoked(list.get(), entry);
        }
        X509_CRL_sign(list.get(), key_.get(), EVP_sha256());
        FILE* f = std::fopen((directory_ / "crl.pem").c_str(), "w");
        PEM_write_X509_CRL(f, list.get());
        std::fclose(f);
        return directory_ / "crl.pem";
    }

private:
    using key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
    using certificate = std::unique_ptr<X509, decltype(&X509_free)>;

    static void extend(X509* x, int nid, const char* value) {
        X509_EXTENSION* e = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    static certificate make(const std::string& name, EVP_PKEY* own, X509* issuer, EVP_PKEY* signer, const char* basic,
                            const char* usage, const char* names = nullptr) {
        static long serial = 0;
        certificate x(X509_new(), &X509_free);
        X509_set_version(x.get(), 2);
        ASN1_INTEGER_set(X509_get_serialNumber(x.get()), ++serial);
        X509_gmtime_adj(X509_getm_notBefore(x.get()), -60);
        X509_gmtime_adj(X509_getm_notAfter(x.get()), 3600);
        X509_set_pubkey(x.get(), own);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x.get()), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
        X509_set_issuer_name(x.get(), X509_get_subject_name(issuer != nullptr ? issuer : x.get()));
        extend(x.get(), NID_basic_constraints, basic);
        if (usage != nullptr)
            extend(x.get(), NID_ext_key_usage, usage);
        if (names != nullptr)
            extend(x.get(), NID_subject_alt_name, names);
        X509_sign(x.get(), signer, EVP_sha256());
        return x;
    }
    void write(X509* x, const std::string& name) const {
        FILE* f = std::fopen((directory_ / name).c_str(), "w");
        PEM_write_X509(f, x);
        std::fclose(f);
    }

    std::filesystem::path directory_;
    key key_;
    certificate certificate_{nullptr, &X509_free};
};

} // namespace tandem::session::testing
