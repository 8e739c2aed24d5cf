// A loaded model of a runtime, and values for its inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "json.h"

namespace edgedistill {

// One input or output: its type as NumPy calls it, and its shape, -1 for an open size.
struct Edge {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
};

// Values of one input, in row-major order.
struct Tensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};

using Feed = std::map<std::string, Tensor>;

// What a run executed; `details` are the fields of OpTiming that the trace tells beside the time.
struct NodeTime {
  std::string name;
  std::string op_type;
  double us;
  Json::Object details;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const std::vector<Edge>& inputs() const = 0;
  // Make what `run` takes of one set of values. Throws SessionError("inputs").
  virtual void prepare(const std::vector<Feed>& feeds) = 0;
  // One run with the values of that number, the part that is timed.
  virtual void run(size_t feed) = 0;
  // Put other values into a set that was prepared, for the input of that name.
  virtual void refill(size_t feed, const std::string& input, const std::vector<char>& bytes) = 0;
  // Of each run so far, where the runtime traces; ends the trace.
  virtual std::vector<std::vector<NodeTime>> operators() { return {}; }
  // All outputs of the last run as floats, by name.
  virtual std::map<std::string, std::vector<float>> outputs() const = 0;
};

// A runtime that a library of the user's provides.
class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual std::string title() const = 0;
  // The runtime's fields of Environment.
  virtual Json describe() const = 0;
  // `trace`: a file's prefix to trace runs to, empty for none. Throws SessionError("load").
  virtual std::unique_ptr<Model> load(const std::string& path, int threads,
                                      const std::map<std::string, std::vector<int64_t>>& shapes,
                                      const std::string& trace) const = 0;
};

// A runtime from its shared library. Throws SessionError("runtime").
std::unique_ptr<Runtime> open_onnxruntime(const std::string& library);
std::unique_ptr<Runtime> open_litert(const std::string& library);
// The runtime for a file of the job's, by the file's name: from its field "library" or "litert".
std::unique_ptr<Runtime> open_runtime(const Json& job);

// Overwrite a tensor's values, which stay where they are. Throws SessionError("inputs") for others than it has room for.
void overwrite(Tensor& tensor, const std::vector<char>& bytes);
// Bytes of one element; 0 for a type that is none of NumPy's numbers.
size_t element_size(const std::string& dtype);
// Seeded values. Integers wider than a byte are 0 or 1. Throws SessionError("inputs") for another type.
Tensor random_tensor(const std::string& dtype, const std::vector<int64_t>& shape);
// The rows of a .npy file, each with a batch dimension of 1. Throws SessionError("inputs").
std::vector<Tensor> read_npy(const std::string& path);

}  // namespace edgedistill
