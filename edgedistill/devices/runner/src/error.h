// What can go wrong in a session, as the agent tells it (devices/agent/agent.py).
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace edgedistill {

// `kind` is one of the agent's words: job, runtime, cpus, load, inputs, run, memory.
class SessionError : public std::runtime_error {
 public:
  SessionError(std::string what_kind, const std::string& message, std::string way_out = "")
      : std::runtime_error(message), kind(std::move(what_kind)), fix(std::move(way_out)) {}

  std::string kind;
  std::string fix;
};

}  // namespace edgedistill
