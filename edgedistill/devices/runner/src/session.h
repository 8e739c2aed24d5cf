// One session, as the agent takes it (devices/agent/agent.py).
#pragma once

#include "json.h"

namespace edgedistill {

// What the job asks for. Throws SessionError, std::invalid_argument for a malformed job.
Json measure(const Json& job);

}  // namespace edgedistill
