// LiteRT on the CPU with XNNPACK, by the C API of libLiteRt.so, which releases from 2.1.6 on have in this form. Its headers
// come with no package: what is called is declared here. A run copies its inputs in and its outputs out, as an app's does.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "error.h"
#include "model.h"
#include "sha256.h"

namespace edgedistill {
namespace {

const char* const kTitle = "LiteRT";
constexpr int kCpu = 1;
constexpr int kRead = 0, kWrite = 1;

using Handle = void*;
using Status = int;

struct Layout {
  unsigned rank : 7;
  unsigned has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
};

struct TensorType {
  int element;
  Layout layout;
};
static_assert(sizeof(TensorType) == 72, "as litert/c/litert_model_types.h has it");

struct Api {
  Status (*CreateEnvironment)(int, const void*, Handle*);
  Status (*CreateModelFromFile)(Handle, const char*, Handle*);
  void (*DestroyModel)(Handle);
  Status (*GetModelSignature)(Handle, size_t, Handle*);
  Status (*GetNumSignatureInputs)(Handle, size_t*);
  Status (*GetNumSignatureOutputs)(Handle, size_t*);
  Status (*GetSignatureInputTensorByIndex)(Handle, size_t, Handle*);
  Status (*GetSignatureOutputTensorByIndex)(Handle, size_t, Handle*);
  Status (*GetTensorName)(Handle, const char**);
  Status (*GetRankedTensorType)(Handle, TensorType*);
  Status (*CreateOptions)(Handle*);
  void (*DestroyOptions)(Handle);
  Status (*SetOptionsHardwareAccelerators)(Handle, int);
  Status (*CreateOpaqueOptions)(const char*, void*, void (*)(void*), Handle*);
  Status (*AddOpaqueOptions)(Handle, Handle);
  Status (*CreateCompiledModel)(Handle, Handle, Handle, Handle*);
  void (*DestroyCompiledModel)(Handle);
  Status (*CompiledModelResizeInputTensor)(Handle, size_t, size_t, const int*, size_t);
  Status (*GetCompiledModelInputBufferRequirements)(Handle, size_t, size_t, Handle*);
  Status (*GetCompiledModelOutputBufferRequirements)(Handle, size_t, size_t, Handle*);
  Status (*CreateManagedTensorBufferFromRequirements)(Handle, const TensorType*, Handle, Handle*);
  void (*DestroyTensorBuffer)(Handle);
  Status (*LockTensorBuffer)(Handle, void**, int);
  Status (*UnlockTensorBuffer)(Handle);
  Status (*RunCompiledModel)(Handle, size_t, size_t, Handle*, size_t, Handle*);

  std::string version;
  Handle environment = nullptr;
};

void require(const Api& api, Status status, const std::string& stage, const std::string& what) {
  if (status == 0) return;
  constexpr Status kNoMemory = 2;
  throw SessionError(status == kNoMemory ? "memory" : stage,
                     std::string(kTitle) + " " + api.version + " " + what + ": status " + std::to_string(status));
}

// LiteRT's types by NumPy's names (litert/c/litert_model_types.h); empty for one that NumPy has not.
std::string type_name(int element) {
  static const std::map<int, const char*> kNames{{1, "float32"}, {2, "int32"},  {3, "uint8"},   {4, "int64"},
                                                 {6, "bool"},    {7, "int16"},  {9, "int8"},    {10, "float16"},
                                                 {11, "float64"}, {13, "uint64"}, {16, "uint32"}, {17, "uint16"}};
  auto found = kNames.find(element);
  return found == kNames.end() ? "type " + std::to_string(element) : found->second;
}

struct Side {
  std::string name;
  TensorType type{};
  size_t bytes = 0;
  Handle buffer = nullptr;
};

class LiteRtModel : public Model {
 public:
  LiteRtModel(const Api& api, const std::string& path, int threads, const std::map<std::string, std::vector<int64_t>>& shapes)
      : api_(api), path_(path) {
    auto check = [&](Status status) { require(api_, status, "load", "cannot load " + path_); };
    check(api_.CreateModelFromFile(api_.environment, path.c_str(), &model_));
    Handle options = nullptr, opaque = nullptr;
    check(api_.CreateOptions(&options));
    check(api_.SetOptionsHardwareAccelerators(options, kCpu));
    // The options of the CPU travel as TOML under this name (litert/c/options/litert_cpu_options.cc).
    check(api_.CreateOpaqueOptions("xnnpack", strdup(("num_threads = " + std::to_string(threads) + "\n").c_str()), std::free,
                                   &opaque));
    check(api_.AddOpaqueOptions(options, opaque));
    Status made = api_.CreateCompiledModel(api_.environment, model_, options, &compiled_);
    api_.DestroyOptions(options);
    check(made);
    Handle signature = nullptr;
    check(api_.GetModelSignature(model_, 0, &signature));
    size_t count = 0;
    check(api_.GetNumSignatureInputs(signature, &count));
    for (size_t i = 0; i < count; ++i) {
      Handle tensor = nullptr;
      check(api_.GetSignatureInputTensorByIndex(signature, i, &tensor));
      Side side = described(tensor);
      auto given = shapes.find(side.name);
      if (given != shapes.end()) resize(i, side, given->second);
      edges_.push_back({side.name, type_name(side.type.element), shape_of(side.type)});
      inputs_.push_back(std::move(side));
    }
    check(api_.GetNumSignatureOutputs(signature, &count));
    for (size_t i = 0; i < count; ++i) {
      Handle tensor = nullptr;
      check(api_.GetSignatureOutputTensorByIndex(signature, i, &tensor));
      outputs_.push_back(described(tensor));
    }
  }

  ~LiteRtModel() override {
    for (const auto& sides : {inputs_, outputs_}) {
      for (const Side& side : sides) {
        if (side.buffer) api_.DestroyTensorBuffer(side.buffer);
      }
    }
    if (compiled_) api_.DestroyCompiledModel(compiled_);
    if (model_) api_.DestroyModel(model_);
  }

  const std::vector<Edge>& inputs() const override { return edges_; }

  void prepare(const std::vector<Feed>& feeds) override {
    feeds_ = feeds;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      allot(inputs_[i], i, api_.GetCompiledModelInputBufferRequirements);
      for (const Feed& feed : feeds_) fit(inputs_[i], feed.at(inputs_[i].name));
      buffers_in_.push_back(inputs_[i].buffer);
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      allot(outputs_[i], i, api_.GetCompiledModelOutputBufferRequirements);
      buffers_out_.push_back(outputs_[i].buffer);
      results_.emplace_back(outputs_[i].bytes);
    }
  }

  void refill(size_t feed, const std::string& input, const std::vector<char>& bytes) override {
    overwrite(feeds_[feed].at(input), bytes);
  }

  void run(size_t feed) override {
    auto check = [&](Status status) { require(api_, status, "run", "fails to run " + path_); };
    void* place = nullptr;
    for (const Side& input : inputs_) {
      check(api_.LockTensorBuffer(input.buffer, &place, kWrite));
      std::memcpy(place, feeds_[feed].at(input.name).bytes.data(), input.bytes);
      check(api_.UnlockTensorBuffer(input.buffer));
    }
    check(api_.RunCompiledModel(compiled_, 0, buffers_in_.size(), buffers_in_.data(), buffers_out_.size(),
                                buffers_out_.data()));
    for (size_t i = 0; i < outputs_.size(); ++i) {
      check(api_.LockTensorBuffer(outputs_[i].buffer, &place, kRead));
      std::memcpy(results_[i].data(), place, outputs_[i].bytes);
      check(api_.UnlockTensorBuffer(outputs_[i].buffer));
    }
  }

  std::map<std::string, std::vector<float>> outputs() const override {
    std::map<std::string, std::vector<float>> found;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (type_name(outputs_[i].type.element) != "float32") continue;
      std::vector<float>& values = found[outputs_[i].name];
      values.resize(results_[i].size() / sizeof(float));
      std::memcpy(values.data(), results_[i].data(), values.size() * sizeof(float));
    }
    return found;
  }

 private:
  Side described(Handle tensor) {
    auto check = [&](Status status) { require(api_, status, "load", "cannot load " + path_); };
    const char* name = nullptr;
    Side side;
    check(api_.GetTensorName(tensor, &name));
    check(api_.GetRankedTensorType(tensor, &side.type));
    side.name = name;
    side.bytes = bytes_of(side.type);
    return side;
  }

  void resize(size_t number, Side& side, const std::vector<int64_t>& shape) {
    std::vector<int> sides(shape.begin(), shape.end());
    if (sides.size() > std::size(side.type.layout.dimensions)) sides.resize(std::size(side.type.layout.dimensions));
    require(api_, api_.CompiledModelResizeInputTensor(compiled_, 0, number, sides.data(), sides.size()), "inputs",
            "does not take the shape of " + side.name);
    side.type.layout.rank = static_cast<unsigned>(sides.size()) & 0x7F;
    std::copy(sides.begin(), sides.end(), side.type.layout.dimensions);
    side.bytes = bytes_of(side.type);
  }

  // Memory for one side of the model, as its delegate wants it.
  void allot(Side& side, size_t number, Status (*requirements)(Handle, size_t, size_t, Handle*)) {
    auto check = [&](Status status) { require(api_, status, "run", "has no memory for " + side.name); };
    Handle wanted = nullptr;
    check(requirements(compiled_, 0, number, &wanted));
    check(api_.CreateManagedTensorBufferFromRequirements(api_.environment, &side.type, wanted, &side.buffer));
  }

  void fit(const Side& side, const Tensor& tensor) {
    if (tensor.bytes.size() == side.bytes && tensor.dtype == type_name(side.type.element)) return;
    throw SessionError("inputs", std::string(kTitle) + " " + api_.version + " does not take the values of " + side.name +
                                     ": it has " + type_name(side.type.element) + " of " + std::to_string(side.bytes) +
                                     " bytes, they are " + tensor.dtype + " of " + std::to_string(tensor.bytes.size()));
  }

  static std::vector<int64_t> shape_of(const TensorType& type) {
    return {type.layout.dimensions, type.layout.dimensions + type.layout.rank};
  }

  static size_t bytes_of(const TensorType& type) {
    size_t size = element_size(type_name(type.element));
    for (int64_t side : shape_of(type)) size *= static_cast<size_t>(side < 0 ? 1 : side);
    return size;
  }

  const Api& api_;
  std::string path_;
  Handle model_ = nullptr, compiled_ = nullptr;
  std::vector<Side> inputs_, outputs_;
  std::vector<Edge> edges_;
  std::vector<Feed> feeds_;
  std::vector<Handle> buffers_in_, buffers_out_;
  std::vector<std::vector<char>> results_;
};

class LiteRt : public Runtime {
 public:
  explicit LiteRt(const std::string& library) {
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) throw SessionError("runtime", std::string(kTitle) + " cannot be loaded: " + dlerror(), kFix);
    find(handle, "CreateEnvironment", api_.CreateEnvironment);
    find(handle, "CreateModelFromFile", api_.CreateModelFromFile);
    find(handle, "DestroyModel", api_.DestroyModel);
    find(handle, "GetModelSignature", api_.GetModelSignature);
    find(handle, "GetNumSignatureInputs", api_.GetNumSignatureInputs);
    find(handle, "GetNumSignatureOutputs", api_.GetNumSignatureOutputs);
    find(handle, "GetSignatureInputTensorByIndex", api_.GetSignatureInputTensorByIndex);
    find(handle, "GetSignatureOutputTensorByIndex", api_.GetSignatureOutputTensorByIndex);
    find(handle, "GetTensorName", api_.GetTensorName);
    find(handle, "GetRankedTensorType", api_.GetRankedTensorType);
    find(handle, "CreateOptions", api_.CreateOptions);
    find(handle, "DestroyOptions", api_.DestroyOptions);
    find(handle, "SetOptionsHardwareAccelerators", api_.SetOptionsHardwareAccelerators);
    find(handle, "CreateOpaqueOptions", api_.CreateOpaqueOptions);
    find(handle, "AddOpaqueOptions", api_.AddOpaqueOptions);
    find(handle, "CreateCompiledModel", api_.CreateCompiledModel);
    find(handle, "DestroyCompiledModel", api_.DestroyCompiledModel);
    find(handle, "CompiledModelResizeInputTensor", api_.CompiledModelResizeInputTensor);
    find(handle, "GetCompiledModelInputBufferRequirements", api_.GetCompiledModelInputBufferRequirements);
    find(handle, "GetCompiledModelOutputBufferRequirements", api_.GetCompiledModelOutputBufferRequirements);
    find(handle, "CreateManagedTensorBufferFromRequirements", api_.CreateManagedTensorBufferFromRequirements);
    find(handle, "DestroyTensorBuffer", api_.DestroyTensorBuffer);
    find(handle, "LockTensorBuffer", api_.LockTensorBuffer);
    find(handle, "UnlockTensorBuffer", api_.UnlockTensorBuffer);
    find(handle, "RunCompiledModel", api_.RunCompiledModel);
    api_.version = hashed(library);
    require(api_, api_.CreateEnvironment(0, nullptr, &api_.environment), "runtime", "does not start");
  }

  std::string title() const override { return std::string(kTitle) + " " + api_.version; }

  Json describe() const override {
    return Json::Object{{"runtime", "LiteRT"}, {"runtime_version", api_.version}, {"provider", "XNNPACK"}};
  }

  std::unique_ptr<Model> load(const std::string& path, int threads, const std::map<std::string, std::vector<int64_t>>& shapes,
                              const std::string&) const override {
    return std::make_unique<LiteRtModel>(api_, path, threads, shapes);
  }

 private:
  static constexpr const char* kFix =
      "name LiteRT's library (libLiteRt.so, from 2.1.6 on) for this device: `litert` in your devices.toml";

  template <typename Function>
  static void find(void* handle, const std::string& name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle, ("LiteRt" + name).c_str()));
    if (!function) throw SessionError("runtime", "the library has no LiteRt" + name, kFix);
  }

  // The library does not tell its version: its own hash does.
  static std::string hashed(const std::string& library) {
    std::ifstream stream(library, std::ios::binary);
    Sha256 hash;
    std::vector<char> part(1 << 20);
    while (stream.read(part.data(), static_cast<std::streamsize>(part.size())) || stream.gcount() > 0) {
      hash.add(part.data(), static_cast<size_t>(stream.gcount()));
    }
    return "library " + hash.hex().substr(0, 12);
  }

  Api api_{};
};

}  // namespace

std::unique_ptr<Runtime> open_litert(const std::string& library) { return std::make_unique<LiteRt>(library); }

}  // namespace edgedistill
