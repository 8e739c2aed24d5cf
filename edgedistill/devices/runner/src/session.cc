#include "session.h"

#include <algorithm>
#include <set>

#include "error.h"
#include "machine.h"
#include "model.h"
#include "picture.h"
#include "sampling.h"

namespace edgedistill {
namespace {

constexpr int kOperatorRuns = 60;
constexpr int kOperatorLeast = 8;
constexpr double kOperatorSeconds = 2.0;
constexpr int kPictureRuns = 50;
constexpr int kPictureLeast = 5;
constexpr double kPictureSeconds = 1.0;

std::string joined(const std::set<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

std::map<std::string, std::vector<int64_t>> shapes_of(const Json& job) {
  std::map<std::string, std::vector<int64_t>> found;
  if (!job.has("input_shapes")) return found;
  for (const auto& [name, sides] : job["input_shapes"].object()) {
    for (const Json& side : sides.list()) found[name].push_back(static_cast<int64_t>(side.number()));
  }
  return found;
}

// What successive runs take: the given values one by one, the same random values for every other input.
std::vector<Feed> feeds_of(const Model& model, const std::map<std::string, std::vector<int64_t>>& shapes,
                           std::string given_name, const std::vector<Tensor>& values) {
  std::set<std::string> names, wrong;
  for (const Edge& input : model.inputs()) names.insert(input.name);
  if (given_name.empty() && !model.inputs().empty()) given_name = model.inputs()[0].name;
  for (const auto& shape : shapes) {
    if (!names.count(shape.first)) wrong.insert(shape.first);
  }
  if (!values.empty() && !names.count(given_name)) wrong.insert(given_name);
  if (!wrong.empty()) {
    throw SessionError("inputs", "the model has no input " + joined(wrong) + "; it has " + joined(names),
                       "give values that match the model's inputs");
  }
  Feed fixed;
  for (const Edge& input : model.inputs()) {
    if (!values.empty() && input.name == given_name) continue;
    std::vector<int64_t> shape = input.shape;
    for (int64_t& side : shape) side = side < 0 ? 1 : side;
    fixed[input.name] = random_tensor(input.dtype, shape);
  }
  if (values.empty()) return {fixed};
  std::vector<Feed> feeds;
  for (const Tensor& value : values) {
    Feed feed = fixed;
    feed[given_name] = value;
    feeds.push_back(std::move(feed));
  }
  return feeds;
}

Timed timed(Model& model, size_t feeds) {
  return [&model, feeds, next = size_t{0}]() mutable {
    size_t feed = next;
    next = (next + 1) % feeds;
    int64_t began = now_ns();
    model.run(feed);
    return now_ns() - began;
  };
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Median time of each node, in order of execution; the first quarter of the runs is dropped as warm-up.
Json operator_medians(const std::vector<std::vector<NodeTime>>& runs) {
  std::vector<std::pair<std::string, std::string>> order;
  std::set<std::string> seen;
  for (const auto& run : runs) {
    for (const auto& node : run) {
      if (seen.insert(node.name).second) order.emplace_back(node.name, node.op_type);
    }
  }
  std::map<std::string, Json::Object> details;
  std::vector<std::map<std::string, double>> sums;
  for (size_t i = runs.size() / 4; i < runs.size(); ++i) {
    sums.emplace_back();
    for (const auto& node : runs[i]) {
      sums.back()[node.name] += node.us;
      details[node.name] = node.details;
    }
  }
  Json::List found;
  for (const auto& [name, kind] : order) {
    std::vector<double> times;
    for (auto& sum : sums) times.push_back(sum.count(name) ? sum[name] : 0);
    Json::Object timing{{"name", name}, {"op_type", kind}, {"median_us", median(times)}};
    for (auto& field : details[name]) timing.push_back(std::move(field));
    found.push_back(std::move(timing));
  }
  return found;
}

Json operators(const Runtime& runtime, const Json& job, const std::vector<Feed>& feeds) {
  auto model = runtime.load(job["model"].text(), static_cast<int>(job["threads"].number()), shapes_of(job),
                            job["model"].text() + ".trace");
  model->prepare(feeds);
  int64_t began = now_ns();
  for (int count = 0; count < kOperatorRuns; ++count) {
    if (count >= kOperatorLeast && static_cast<double>(now_ns() - began) > kOperatorSeconds * 1e9) break;
    model->run(static_cast<size_t>(count) % feeds.size());
  }
  return operator_medians(model->operators());
}

// Median time from a decoded picture to the index of the likeliest class: the steps of the contract, the run, the largest
// output. Of runs apart from the samples, in ms.
double picture_to_label_ms(Model& model, const Json& way, const std::string& input) {
  const Pixels picture = random_pixels(static_cast<size_t>(way["width"].number()), static_cast<size_t>(way["height"].number()));
  const bool channels_last = way["layout"].text() == "NHWC";
  std::ptrdiff_t labels = 0;  // their sum is looked at, so that finding them is not left out
  std::vector<double> times;
  const int64_t first = now_ns();
  for (int count = 0; count < kPictureRuns; ++count) {
    if (count >= kPictureLeast && static_cast<double>(now_ns() - first) > kPictureSeconds * 1e9) break;
    const int64_t began = now_ns();
    model.refill(0, input, tensor_bytes(prepared(picture, way["steps"]), channels_last));
    model.run(0);
    for (const auto& [name, values] : model.outputs()) {
      labels += std::max_element(values.begin(), values.end()) - values.begin();
    }
    times.push_back(static_cast<double>(now_ns() - began) / 1e6);
  }
  if (labels < 0) throw SessionError("run", "the model gives no label");
  return median(times);
}

Json numbers(const std::vector<int64_t>& values) {
  Json::List list;
  list.reserve(values.size());
  for (int64_t value : values) list.emplace_back(static_cast<long long>(value));
  return list;
}

}  // namespace

std::unique_ptr<Runtime> open_runtime(const Json& job) {
  const std::string& path = job["model"].text();
  const std::string suffix = path.substr(std::min(path.rfind('.'), path.size()));
  const bool onnx = suffix == ".onnx";
  if (!onnx && suffix != ".tflite") {
    throw SessionError("runtime", "the runner measures ONNX and LiteRT files, and " + path + " is neither",
                       "measure it by Python on the device: `python` in your devices.toml");
  }
  const char* const key = onnx ? "library" : "litert";
  if (!job.has(key) || job[key].is_null()) {
    throw SessionError("runtime", std::string("the device has no library of ") + (onnx ? "ONNX Runtime" : "LiteRT"),
                       std::string("name it for this device: `") + key + "` in your devices.toml");
  }
  return onnx ? open_onnxruntime(job[key].text()) : open_litert(job[key].text());
}

Json measure(const Json& job) {
  std::vector<int> wanted;
  for (const Json& cpu : job["pinned_cpus"].list()) wanted.push_back(static_cast<int>(cpu.number()));
  std::vector<int> cpus = pin(wanted);
  auto runtime = open_runtime(job);
  int threads = static_cast<int>(job["threads"].number());
  const auto shapes = shapes_of(job);
  // Read before the memory is taken stock of, so that the inputs do not count as the model's.
  std::vector<Tensor> values;
  if (job.has("inputs") && !job["inputs"].is_null()) values = read_npy(job["inputs"].text());
  long long before = status_bytes("VmRSS").value_or(0), first_peak = status_bytes("VmHWM").value_or(0);
  reset_peak();
  if (job.has("memory_bytes") && !job["memory_bytes"].is_null()) {
    limit_memory(static_cast<long long>(job["memory_bytes"].number()));
  }

  int64_t began = now_ns();
  auto model = runtime->load(job["model"].text(), threads, shapes, "");
  double load_ms = static_cast<double>(now_ns() - began) / 1e6;
  std::string given = job.has("input_name") ? job["input_name"].text() : "";
  std::vector<Feed> feeds = feeds_of(*model, shapes, given, values);
  model->prepare(feeds);
  std::vector<Timed> runs{timed(*model, feeds.size())};
  double first_run_ms = static_cast<double>(runs[0]()) / 1e6;
  int warmup_runs = warm_up(runs);
  // Before the anchor is loaded, whose memory is not the model's.
  long long peak = status_bytes("VmHWM").value_or(0);

  std::unique_ptr<Model> anchor;
  if (job.has("anchor") && !job["anchor"].is_null()) {
    anchor = runtime->load(job["anchor"].text(), threads, {}, "");
    anchor->prepare(feeds_of(*anchor, {}, "", {}));
    runs.push_back(timed(*anchor, 1));
    warm_up({runs[1]});
  }
  Json start = moment(cpus);
  Taken taken = take_samples(runs, job["seconds"].number(), static_cast<int>(job["min_runs"].number()),
                             job["burst_s"].number());
  Json end = moment(cpus);
  Json::List turns;
  if (anchor) {
    for (const auto& turn : taken.turns) turns.push_back(numbers(turn));
  }
  Json way;
  if (job.has("picture") && !job["picture"].is_null()) {
    way = picture_to_label_ms(*model, job["picture"], given.empty() ? model->inputs().at(0).name : given);
  }
  bool trace = job.has("operators") && job["operators"].truth();
  Json timings = trace ? operators(*runtime, job, feeds) : Json(Json::List{});
  Json where = environment(cpus);
  const Json described = runtime->describe();
  for (const auto& [name, value] : described.object()) where.set(name, value);
  where.set("threads", threads);
  return Json::Object{
      {"session", Json::Object{{"samples_ns", numbers(taken.samples_ns[0])},
                               {"anchor_ns", anchor ? numbers(taken.samples_ns[1]) : Json(Json::List{})},
                               {"turns", turns},
                               {"warmup_runs", warmup_runs},
                               {"start", start},
                               {"end", end},
                               {"load_ms", load_ms},
                               {"first_run_ms", first_run_ms},
                               {"picture_to_label_ms", way},
                               {"peak_memory_bytes", std::max(peak, first_peak)},
                               {"model_memory_bytes", std::max(peak - before, 0LL)}}},
      {"environment", where},
      {"op_timings", timings}};
}

}  // namespace edgedistill
