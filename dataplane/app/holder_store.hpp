// SPDX-License-Identifier: Apache-2.0
// What a holder leaves to the next one, by name: the state memory ("state") and its end of each data plane's sockets
// ("dataplane-PID"). The service manager keeps copies of them (FDSTORE) for the case that the holder dies; a holder
// that becomes another program (its own upgrade) hands them over itself.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/app/holder_child.hpp"

namespace tandem::holder {

struct named {
    std::string name;
    descriptor fd;
};

// From the service manager (LISTEN_FDS) or from the program that this process was before (`handed`: name=N,name=N).
[[nodiscard]] std::vector<named> inherited(const std::string& handed);

[[nodiscard]] std::string name_of(pid_t dataplane);
[[nodiscard]] pid_t pid_in(const std::string& name); // 0: not a data plane's

void store(const std::string& name, int fd);
void forget(const std::string& name);

// Becomes `argv` with `--resume` and the descriptors; returns only where that failed.
void resume_as(const std::string& program, std::vector<std::string> argv,
               const std::vector<std::pair<std::string, int>>& descriptors);

} // namespace tandem::holder
