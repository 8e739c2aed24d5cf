// ONNX Runtime on the CPU, as formats/onnx/on_device.py has it: fully optimised, one run at a time, no thread spins.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "error.h"
#include "model.h"

namespace edgedistill {
namespace {

const char* const kTitle = "ONNX Runtime";

struct Api {
  const OrtApi* ort = nullptr;
  std::string version;
  OrtEnv* env = nullptr;
};

std::string taken(const Api& api, OrtStatus* status) {
  std::string message = api.ort->GetErrorMessage(status);
  api.ort->ReleaseStatus(status);
  return message;
}

void require(const Api& api, OrtStatus* status, const std::string& stage, const std::string& what) {
  if (!status) return;
  OrtErrorCode code = api.ort->GetErrorCode(status);
  std::string message = taken(api, status);
  std::string kind = stage;
  if (stage == "run" && code == ORT_INVALID_ARGUMENT) kind = "inputs";
  if (message.find("bad_alloc") != std::string::npos || message.find("allocate memory") != std::string::npos) kind = "memory";
  throw SessionError(kind, std::string(kTitle) + " " + api.version + " " + what + ": " + message);
}

const std::pair<ONNXTensorElementDataType, const char*> kTypes[] = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "float32"},   {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, "float16"},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, "float64"},  {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, "uint8"},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, "int8"},       {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, "uint16"},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, "int16"},     {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, "uint32"},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, "int32"},     {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, "uint64"},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, "int64"},     {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, "bool"},
};

std::string type_name(ONNXTensorElementDataType type) {
  for (const auto& [known, name] : kTypes) {
    if (known == type) return name;
  }
  return "type " + std::to_string(type);
}

ONNXTensorElementDataType type_of(const std::string& dtype) {
  for (const auto& [type, name] : kTypes) {
    if (dtype == name) return type;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

// The shapes of a trace's list of tensors, each {type: shape}.
Json shapes(const Json& told, const std::string& name) {
  Json::List found;
  if (!told.has(name)) return found;
  for (const Json& tensor : told[name].list()) {
    for (const auto& [type, shape] : tensor.object()) found.push_back(shape);
  }
  return found;
}

// What a node took and gave, as formats/onnx/on_device.py reads it.
Json::Object details(const Json& told) {
  if (!told.has("output_size")) return {};
  double bytes = 0;
  for (const char* name : {"activation_size", "parameter_size", "output_size"}) {
    if (told.has(name)) bytes += std::stod(told[name].text());
  }
  return Json::Object{{"unit", told.has("provider") ? told["provider"].text() : std::string()},
                      {"inputs", shapes(told, "input_type_shape")},
                      {"outputs", shapes(told, "output_type_shape")},
                      {"bytes", bytes}};
}

class OnnxModel : public Model {
 public:
  OnnxModel(const Api& api, const std::string& path, int threads, const std::map<std::string, std::vector<int64_t>>& shapes,
            const std::string& trace, bool prepacking = true)
      : api_(api), path_(path), trace_(trace), threads_(threads), shapes_(shapes) {
    OrtSessionOptions* options = nullptr;
    auto check = [&](OrtStatus* status) { require(api_, status, "load", "cannot load " + path); };
    check(api_.ort->CreateSessionOptions(&options));
    check(api_.ort->SetIntraOpNumThreads(options, threads));
    check(api_.ort->SetInterOpNumThreads(options, 1));
    check(api_.ort->SetSessionExecutionMode(options, ORT_SEQUENTIAL));
    check(api_.ort->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
    check(api_.ort->SetSessionLogSeverityLevel(options, 3));
    check(api_.ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"));
    if (!prepacking) check(api_.ort->AddSessionConfigEntry(options, "session.disable_prepacking", "1"));
    if (!trace.empty()) check(api_.ort->EnableProfiling(options, trace.c_str()));
    OrtStatus* status = api_.ort->CreateSession(api_.env, path.c_str(), options, &session_);
    api_.ort->ReleaseSessionOptions(options);
    check(status);
    check(api_.ort->GetAllocatorWithDefaultOptions(&allocator_));
    check(api_.ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_));
    size_t count = 0;
    check(api_.ort->SessionGetInputCount(session_, &count));
    for (size_t i = 0; i < count; ++i) inputs_.push_back(edge(i, shapes));
    check(api_.ort->SessionGetOutputCount(session_, &count));
    for (size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      check(api_.ort->SessionGetOutputName(session_, i, allocator_, &name));
      output_names_.emplace_back(name);
      check(api_.ort->AllocatorFree(allocator_, name));
    }
    for (const auto& name : output_names_) output_pointers_.push_back(name.c_str());
    for (const auto& input : inputs_) input_pointers_.push_back(input.name.c_str());
  }

  ~OnnxModel() override {
    drop_outputs();
    for (auto& values : prepared_) {
      for (OrtValue* value : values) api_.ort->ReleaseValue(value);
    }
    if (memory_) api_.ort->ReleaseMemoryInfo(memory_);
    if (session_) api_.ort->ReleaseSession(session_);
  }

  const std::vector<Edge>& inputs() const override { return inputs_; }

  void prepare(const std::vector<Feed>& feeds) override {
    feeds_ = feeds;
    for (auto& feed : feeds_) {
      std::vector<OrtValue*> values;
      for (const auto& input : inputs_) {
        Tensor& tensor = feed.at(input.name);
        OrtValue* value = nullptr;
        require(api_,
                api_.ort->CreateTensorWithDataAsOrtValue(memory_, tensor.bytes.data(), tensor.bytes.size(),
                                                         tensor.shape.data(), tensor.shape.size(), type_of(tensor.dtype),
                                                         &value),
                "inputs", "does not take the values of " + input.name);
        values.push_back(value);
      }
      prepared_.push_back(std::move(values));
    }
    outputs_.assign(output_names_.size(), nullptr);
  }

  void refill(size_t feed, const std::string& input, const std::vector<char>& bytes) override {
    overwrite(feeds_[feed].at(input), bytes);
  }

  void run(size_t feed) override {
    drop_outputs();  // the runtime makes new ones each time, as it does for an app
    const auto& values = prepared_[feed];
    require(api_,
            api_.ort->Run(session_, nullptr, input_pointers_.data(), values.data(), values.size(), output_pointers_.data(),
                          output_pointers_.size(), outputs_.data()),
            "run", "fails to run " + path_);
  }

  std::vector<std::vector<NodeTime>> operators() override {
    auto runs = traced();
    // The trace of a session leaves out the weights that its kernels have packed. They are told by a session that packs none,
    // whose times are other ones.
    OnnxModel unpacked(api_, path_, threads_, shapes_, trace_, false);
    unpacked.prepare(feeds_);
    unpacked.run(0);
    std::map<std::string, Json::Object> details;
    for (auto& run : unpacked.traced()) {
      for (auto& node : run) details[node.name] = std::move(node.details);
    }
    for (auto& run : runs) {
      for (auto& node : run) node.details = details[node.name];
    }
    return runs;
  }

  std::map<std::string, std::vector<float>> outputs() const override {
    std::map<std::string, std::vector<float>> found;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      OrtTensorTypeAndShapeInfo* info = nullptr;
      ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
      size_t count = 0;
      void* data = nullptr;
      require(api_, api_.ort->GetTensorTypeAndShape(outputs_[i], &info), "run", "gives no tensor");
      require(api_, api_.ort->GetTensorElementType(info, &type), "run", "gives no tensor");
      require(api_, api_.ort->GetTensorShapeElementCount(info, &count), "run", "gives no tensor");
      api_.ort->ReleaseTensorTypeAndShapeInfo(info);
      require(api_, api_.ort->GetTensorMutableData(outputs_[i], &data), "run", "gives no tensor");
      if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) continue;
      auto* values = static_cast<float*>(data);
      found[output_names_[i]] = std::vector<float>(values, values + count);
    }
    return found;
  }

 private:
  // The nodes of each finished run; ends the trace.
  std::vector<std::vector<NodeTime>> traced() {
    char* name = nullptr;
    require(api_, api_.ort->SessionEndProfiling(session_, allocator_, &name), "run", "cannot end its trace");
    std::ifstream stream(name, std::ios::binary);
    std::stringstream content;
    content << stream.rdbuf();
    std::remove(name);
    require(api_, api_.ort->AllocatorFree(allocator_, name), "run", "cannot end its trace");
    std::vector<std::vector<NodeTime>> runs(1);
    const std::string ending = "_kernel_time";
    const Json trace = Json::parse(content.str());
    for (const Json& event : trace.list()) {
      const std::string& what = event["name"].text();
      const std::string category = event.has("cat") ? event["cat"].text() : "";
      if (category == "Session" && what == "model_run") {
        runs.emplace_back();
      } else if (category == "Node" && what.size() > ending.size() &&
                 what.compare(what.size() - ending.size(), ending.size(), ending) == 0) {
        const std::string& kind = event["args"]["op_name"].text();
        // The time of these is that of the nodes inside.
        if (kind == "If" || kind == "Loop" || kind == "Scan") continue;
        runs.back().push_back(
            {what.substr(0, what.size() - ending.size()), kind, event["dur"].number(), details(event["args"])});
      }
    }
    runs.pop_back();
    return runs;
  }

  Edge edge(size_t number, const std::map<std::string, std::vector<int64_t>>& shapes) {
    auto check = [&](OrtStatus* status) { require(api_, status, "load", "cannot load " + path_); };
    char* name = nullptr;
    check(api_.ort->SessionGetInputName(session_, number, allocator_, &name));
    Edge found{name, "", {}};
    check(api_.ort->AllocatorFree(allocator_, name));
    OrtTypeInfo* type = nullptr;
    check(api_.ort->SessionGetInputTypeInfo(session_, number, &type));
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    check(api_.ort->CastTypeInfoToTensorInfo(type, &tensor));
    if (tensor) {
      ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
      size_t sides = 0;
      check(api_.ort->GetTensorElementType(tensor, &element));
      check(api_.ort->GetDimensionsCount(tensor, &sides));
      found.dtype = type_name(element);
      found.shape.resize(sides);
      check(api_.ort->GetDimensions(tensor, found.shape.data(), sides));
    }
    api_.ort->ReleaseTypeInfo(type);
    auto given = shapes.find(found.name);
    if (given != shapes.end()) found.shape = given->second;
    return found;
  }

  void drop_outputs() {
    for (OrtValue*& value : outputs_) {
      if (value) api_.ort->ReleaseValue(value);
      value = nullptr;
    }
  }

  const Api& api_;
  std::string path_, trace_;
  int threads_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  OrtSession* session_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  std::vector<Edge> inputs_;
  std::vector<std::string> output_names_;
  std::vector<const char*> input_pointers_, output_pointers_;
  std::vector<Feed> feeds_;
  std::vector<std::vector<OrtValue*>> prepared_;
  std::vector<OrtValue*> outputs_;
};

class OnnxRuntime : public Runtime {
 public:
  explicit OnnxRuntime(const std::string& library) {
    const char* const fix = "name ONNX Runtime's library for this device: `library` in your devices.toml";
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) throw SessionError("runtime", std::string(kTitle) + " cannot be loaded: " + dlerror(), fix);
    auto* base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
    if (!base) throw SessionError("runtime", library + " is no library of ONNX Runtime", fix);
    api_.version = base()->GetVersionString();
    api_.ort = base()->GetApi(ORT_API_VERSION);
    if (!api_.ort) {
      throw SessionError("runtime",
                         "ONNX Runtime " + api_.version + " is older than 1." + std::to_string(ORT_API_VERSION) +
                             ", which this runner was built for",
                         fix);
    }
    require(api_, api_.ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgedistill", &api_.env), "runtime", "does not start");
  }

  std::string title() const override { return std::string(kTitle) + " " + api_.version; }

  Json describe() const override {
    return Json::Object{
        {"runtime", "onnxruntime"}, {"runtime_version", api_.version}, {"provider", "CPUExecutionProvider"}};
  }

  std::unique_ptr<Model> load(const std::string& path, int threads, const std::map<std::string, std::vector<int64_t>>& shapes,
                              const std::string& trace) const override {
    return std::make_unique<OnnxModel>(api_, path, threads, shapes, trace);
  }

 private:
  Api api_;
};

}  // namespace

std::unique_ptr<Runtime> open_onnxruntime(const std::string& library) { return std::make_unique<OnnxRuntime>(library); }

}  // namespace edgedistill
