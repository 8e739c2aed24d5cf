// Warm-up and samples of one model, or of two in turn: as devices/agent/agent_sampling.py takes them.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "json.h"

namespace edgedistill {

// One run of a model; its duration in ns.
using Timed = std::function<int64_t()>;

struct Taken {
  std::vector<std::vector<int64_t>> samples_ns;
  std::vector<std::vector<int64_t>> turns;
};

// Runs each model for a quarter of a second, at least three times; the runs of the first.
int warm_up(const std::vector<Timed>& models);

// Runs for `seconds` in all: of one model back to back, of two in turn, for `burst_s` and at least five runs each. Goes on
// until each has `min_runs`, but ends after four times `seconds`.
Taken take_samples(const std::vector<Timed>& models, double seconds, int min_runs, double burst_s);

}  // namespace edgedistill
