// SPDX-License-Identifier: Apache-2.0
// See holder_grace.hpp. https://docs.kernel.org/admin-guide/kernel-parameters.html (rcupdate.rcu_expedited).
#include "dataplane/app/holder_grace.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace tandem::holder {

namespace {

constexpr const char* switch_path = "/sys/kernel/rcu_expedited";

bool is_off() noexcept {
    const descriptor fd(open(switch_path, O_RDONLY | O_CLOEXEC));
    char value = 0;
    return fd && read(fd.get(), &value, 1) == 1 && value == '0';
}

bool turn(char value) noexcept {
    const descriptor fd(open(switch_path, O_WRONLY | O_CLOEXEC));
    return fd && write(fd.get(), &value, 1) == 1;
}

std::string run_directory() {
    const char* const ours = std::getenv("RUNTIME_DIRECTORY"); // of the unit
    return ours == nullptr || *ours != '/' ? "/run" : std::string(ours);
}

} // namespace

grace_periods::grace_periods() : note_path_(run_directory() + "/tandem-holder.rcu_expedited") {
    if (take_note(0))
        put_back();
}

// False where there is none, or another holder uses it: that one does the same, and puts it back.
bool grace_periods::take_note(int flags) noexcept {
    descriptor fd(open(note_path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
    struct stat status {};
    if (!fd || flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || fstat(fd.get(), &status) != 0 || status.st_nlink == 0)
        return false;
    note_ = std::move(fd);
    return true;
}

// The note goes last: killed in between, this is done once more.
void grace_periods::put_back() noexcept {
    if (turn('0') || is_off())
        unlink(note_path_.c_str());
    note_ = {};
}

void grace_periods::shorten(bool wanted) noexcept {
    if (wanted == static_cast<bool>(note_))
        return;
    if (!wanted)
        return put_back();
    if (!is_off() || !take_note(O_CREAT))
        return;
    if (!turn('1'))
        put_back();
}

} // namespace tandem::holder
