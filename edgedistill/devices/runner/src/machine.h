// The machine that the runner is on, as Linux and Android show it. What each field means: documents/measurements.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json.h"

namespace edgedistill {

// A small file of the system without blanks at its end; empty if it cannot be read.
std::string read_text(const std::string& path);

// CPUs that this process may use, rising.
std::vector<int> allowed_cpus();
// The CPUs for a session, of the largest cores first (agent_machine.best_cpus). Throws SessionError("cpus").
std::vector<int> best_cpus(int threads);
// Pin this process; returns the CPUs that it really has. Throws SessionError("cpus").
std::vector<int> pin(const std::vector<int>& cpus);

// A memory figure of this process ("VmHWM", "VmRSS"), in bytes; nothing where the system does not tell.
std::optional<long long> status_bytes(const std::string& field);
void reset_peak();
// Let this process take so many bytes beyond what it has.
void limit_memory(long long bytes);

std::string os_name();
// What the machine is, by name, for people.
Json facts(const std::string& distribution, const std::string& version);
// The machine's fields of Environment.
Json environment(const std::vector<int>& cpus);
// The fields of Moment.
Json moment(const std::vector<int>& cpus);

// Nanoseconds of a clock that no one sets.
int64_t now_ns();

}  // namespace edgedistill
