// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_session_driver
// What the other end says is a zstd frame: unpacked in pieces, its memory is bounded and it comes to an end (COL-26).
// Then the same octets as plain ones: packed in the same pieces they come back as they were.
#include <algorithm>
#include <cstdlib>

#include "controlplane/session_layer/packing.hpp"

namespace {

using namespace tandem::session_layer;
using octets = std::vector<std::uint8_t>;

void require(bool holds) {
    if (!holds)
        std::abort();
}

// At most `most` octets out; nothing where it is no frame.
octets unpacked(std::span<const std::uint8_t> in, std::size_t piece, std::size_t most) {
    unpacker u;
    octets all, part(piece);
    while (all.size() < most) {
        const auto step = u.unpack(in.first(std::min(piece, in.size())), part);
        require(step.eaten <= in.size() && step.made <= part.size() && u.memory() < 640 * 1024);
        if (step.wrong)
            return {};
        if (step.eaten == 0 && step.made == 0)
            break;
        in = in.subspan(step.eaten);
        all.insert(all.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(step.made));
    }
    return all;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2)
        return 0;
    const std::span<const std::uint8_t> rest(data + 1, size - 1);
    const std::size_t piece = std::size_t{data[0]} + 1;
    (void)unpacked(rest, piece, 1 << 20);
    packer p;
    octets link;
    for (auto left = rest; !left.empty(); left = left.subspan(std::min(piece, left.size())))
        require(p.pack(left.first(std::min(piece, left.size())),
                       left.size() % 2 == 0 ? packer::flush::now : packer::flush::later, link));
    require(p.pack({}, packer::flush::end, link));
    require(std::ranges::equal(unpacked(link, piece, rest.size() + 1), rest));
    return 0;
}
