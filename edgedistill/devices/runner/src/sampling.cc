#include "sampling.h"

#include <algorithm>

#include "machine.h"

namespace edgedistill {
namespace {

constexpr double kWarmupS = 0.25;
constexpr int kWarmupRuns = 3;
constexpr size_t kBurstRuns = 5;
constexpr double kHardLimitFactor = 4;

int64_t in_ns(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

// One run at least; none begins after `last_end`.
void burst(const Timed& run, std::vector<int64_t>& samples_ns, double seconds, int64_t last_end) {
  int64_t end = now_ns() + in_ns(seconds);
  size_t least = samples_ns.size() + kBurstRuns;
  while (true) {
    samples_ns.push_back(run());
    int64_t now = now_ns();
    if (now >= last_end || (now >= end && samples_ns.size() >= least)) return;
  }
}

}  // namespace

int warm_up(const std::vector<Timed>& models) {
  int first = 0;
  for (size_t place = 0; place < models.size(); ++place) {
    int64_t end = now_ns() + in_ns(kWarmupS);
    int runs = 0;
    while (runs < kWarmupRuns || now_ns() < end) {
      models[place]();
      ++runs;
    }
    if (place == 0) first = runs;
  }
  return first;
}

Taken take_samples(const std::vector<Timed>& models, double seconds, int min_runs, double burst_s) {
  Taken taken;
  taken.samples_ns.resize(models.size());
  int64_t began = now_ns(), end = began + in_ns(seconds), last_end = began + in_ns(kHardLimitFactor * seconds);
  double length_s = models.size() == 1 ? seconds : burst_s;
  for (int64_t now = began; now < last_end; now = now_ns()) {
    if (now >= end) {
      if (std::all_of(taken.samples_ns.begin(), taken.samples_ns.end(),
                      [&](const auto& samples) { return samples.size() >= static_cast<size_t>(min_runs); })) {
        break;
      }
      length_s = 0;
    }
    std::vector<int64_t> turn;
    for (size_t i = 0; i < models.size(); ++i) {
      size_t before = taken.samples_ns[i].size();
      burst(models[i], taken.samples_ns[i], length_s, last_end);
      turn.push_back(static_cast<int64_t>(taken.samples_ns[i].size() - before));
    }
    taken.turns.push_back(std::move(turn));
  }
  return taken;
}

}  // namespace edgedistill
