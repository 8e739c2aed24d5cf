// The server on a device, for devices without Python: devices/agent/agent_server.py says what it answers.
#pragma once

#include <string>

namespace edgedistill {

// Serve stdin and stdout until they end, with files in a folder of its own in `base`. The exit code.
int serve(const std::string& base);

}  // namespace edgedistill
