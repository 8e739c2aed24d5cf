// How hot the machine is, and what holds its clocks back: the fields of Moment that agent/agent_heat.py finds, by the same
// rules.
#pragma once

#include <optional>
#include <string>

#include "json.h"

namespace edgedistill {

// The fields by name, for the processor `cpu`; null is what the system does not tell.
Json::Object heat(int cpu);

// From the report of Android's thermal service: its status by name, and the hottest processor.
std::optional<std::string> android_status(const std::string& thermal);
std::optional<double> android_temperature_c(const std::string& thermal);

}  // namespace edgedistill
