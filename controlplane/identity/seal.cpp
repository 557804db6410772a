// SPDX-License-Identifier: Apache-2.0
// Sealing of keys at rest with OpenSSL's AES-256-GCM. See seal.hpp.
#include "controlplane/identity/seal.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/descriptor.hpp"

namespace tandem::identity {
namespace {

constexpr std::uint8_t format = 1;
constexpr std::size_t nonce_size = 12, tag_size = 16, key_size = 32;

struct cipher_free {
    void operator()(EVP_CIPHER_CTX* c) const noexcept { EVP_CIPHER_CTX_free(c); }
};
using cipher = std::unique_ptr<EVP_CIPHER_CTX, cipher_free>;

const std::uint8_t* bytes_of(std::string_view text) {
    return reinterpret_cast<const std::uint8_t*>(text.data());
}

// Reads up to `size` bytes; how many came, or -1.
ssize_t read_all(int fd, std::uint8_t* to, std::size_t size) {
    std::size_t have = 0;
    while (have < size) {
        const auto n = ::read(fd, to + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += static_cast<std::size_t>(n);
    }
    return static_cast<ssize_t>(have);
}

std::string failed(const char* what, const std::string& file) {
    return std::string("cannot ") + what + " master_key_file '" + file + "': " + std::strerror(errno);
}

// The file appears whole or not at all: written beside, synced, then linked under its name.
tl::expected<void, std::string> make_key_file(const std::string& file) {
    const std::string beside = file + ".new." + std::to_string(::getpid());
    {
        const descriptor out(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!out)
            return tl::unexpected(failed("make", file) + "; make its directory first, writable by this program only");
        const auto key = random_secret(key_size);
        if (key.empty() || ::write(out.get(), key.view().data(), key.size()) != static_cast<ssize_t>(key.size()) ||
            ::fsync(out.get()) != 0) {
            auto error = failed("write", file);
            ::unlink(beside.c_str());
            return tl::unexpected(std::move(error));
        }
    }
    const int linked = ::link(beside.c_str(), file.c_str());
    const int reason = errno;
    ::unlink(beside.c_str());
    errno = reason;
    if (linked != 0 && reason != EEXIST) // somebody else made it meanwhile: theirs is used
        return tl::unexpected(failed("make", file));
    return {};
}

} // namespace

protocol::secret random_secret(std::size_t size) {
    protocol::secret value;
    if (RAND_bytes(value.resize(size).data(), static_cast<int>(size)) != 1)
        value.clear();
    return value;
}

tl::expected<sealer, std::string> sealer::open(const std::string& file) {
    int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        if (auto made = make_key_file(file); !made)
            return tl::unexpected(made.error());
        fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    }
    const descriptor in(fd);
    struct stat status {};
    if (!in || ::fstat(in.get(), &status) != 0)
        return tl::unexpected(failed("open", file));
    if (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0)
        return tl::unexpected("master_key_file '" + file + "' is open to others than its owner: chmod 600 it");
    protocol::secret key;
    std::uint8_t one_more = 0;
    if (read_all(in.get(), key.resize(key_size).data(), key_size) != static_cast<ssize_t>(key_size) ||
        read_all(in.get(), &one_more, 1) != 0)
        return tl::unexpected(
            "master_key_file '" + file +
            "' must hold exactly 32 bytes; restore it from your backup (a new one opens no stored PSK)");
    return sealer(std::move(key));
}

std::vector<std::uint8_t> sealer::seal(std::span<const std::uint8_t> plain, std::string_view context) const {
    std::vector<std::uint8_t> out(1 + nonce_size + plain.size() + tag_size);
    out[0] = format;
    std::uint8_t* nonce = out.data() + 1;
    std::uint8_t* text = nonce + nonce_size;
    const cipher c(EVP_CIPHER_CTX_new());
    int n = 0;
    if (!c || RAND_bytes(nonce, nonce_size) != 1 ||
        EVP_EncryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, key_.view().data(), nonce) != 1 ||
        EVP_EncryptUpdate(c.get(), nullptr, &n, bytes_of(context), static_cast<int>(context.size())) != 1 ||
        EVP_EncryptUpdate(c.get(), text, &n, plain.data(), static_cast<int>(plain.size())) != 1 ||
        EVP_EncryptFinal_ex(c.get(), text + n, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_AEAD_GET_TAG, tag_size, text + plain.size()) != 1)
        return {};
    return out;
}

std::optional<protocol::secret> sealer::unseal(std::span<const std::uint8_t> sealed, std::string_view context) const {
    if (sealed.size() < 1 + nonce_size + tag_size || sealed[0] != format)
        return std::nullopt;
    const auto nonce = sealed.subspan(1, nonce_size);
    const auto text = sealed.subspan(1 + nonce_size, sealed.size() - 1 - nonce_size - tag_size);
    std::array<std::uint8_t, tag_size> tag{};
    std::copy_n(sealed.end() - tag_size, tag_size, tag.begin());
    if (text.size() > protocol::secret::capacity)
        return std::nullopt;
    protocol::secret plain;
    const auto out = plain.resize(text.size());
    const cipher c(EVP_CIPHER_CTX_new());
    int n = 0;
    if (!c || EVP_DecryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, key_.view().data(), nonce.data()) != 1 ||
        EVP_DecryptUpdate(c.get(), nullptr, &n, bytes_of(context), static_cast<int>(context.size())) != 1 ||
        EVP_DecryptUpdate(c.get(), out.data(), &n, text.data(), static_cast<int>(text.size())) != 1 ||
        EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_AEAD_SET_TAG, tag_size, tag.data()) != 1 ||
        EVP_DecryptFinal_ex(c.get(), out.data() + n, &n) != 1)
        return std::nullopt; // `plain` wipes itself
    return plain;
}

} // namespace tandem::identity
