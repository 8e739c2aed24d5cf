// edgedistill's runner: measures models on a device that has no Python.
//
//     edgedistill-runner serve [FOLDER]     serve stdin and stdout (devices/agent/agent_server.py says how)
//     edgedistill-runner starts             nothing, successfully: whether this machine runs it
//     edgedistill-runner session            one session: a job on stdin, an answer on stdout
//     edgedistill-runner version KIND LIBRARY    the version of a runtime's library; KIND is `library` (ONNX Runtime) or `litert`
//     edgedistill-runner prepare STEPS.json PICTURE.npy    what a picture becomes by the steps of a contract
//     edgedistill-runner outputs LIBRARY MODEL INPUTS.npy    what the model answers to the first input, as JSON
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <new>
#include <sstream>
#include <string>

#include "error.h"
#include "model.h"
#include "picture.h"
#include "server.h"
#include "session.h"

namespace {

using edgedistill::Json;
using edgedistill::SessionError;

Json failure(const SessionError& error) {
  std::string fix = error.fix;
  if (fix.empty() && error.kind == "load") fix = "export the model again, or bring a newer library of its runtime";
  if (fix.empty() && error.kind == "run") fix = "export the model again, for inputs of the size that it states";
  if (fix.empty() && error.kind == "inputs") fix = "give values that match the model's inputs";
  if (fix.empty() && error.kind == "memory") fix = "export the model again, for smaller inputs, or take a smaller one";
  return Json::Object{{"error", Json::Object{{"kind", error.kind}, {"message", error.what()}, {"fix", fix}}}};
}

int session() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  int sink = fcntl(1, F_DUPFD_CLOEXEC, 3);
  dup2(2, 1);  // what a library prints goes elsewhere
  Json answer;
  int code = 1;
  try {
    answer = edgedistill::measure(Json::parse(text));
    code = 0;
  } catch (const SessionError& error) {
    answer = failure(error);
  } catch (const std::bad_alloc&) {
    answer = failure(SessionError("memory", "there is not enough memory to measure"));
  } catch (const std::invalid_argument& error) {
    answer = failure(SessionError("job", std::string("the job is malformed: ") + error.what()));
  }
  std::string out = answer.dump();
  for (size_t sent = 0; sent < out.size();) {
    ssize_t count = write(sink, out.data() + sent, out.size() - sent);
    if (count <= 0) return 1;
    sent += static_cast<size_t>(count);
  }
  return code;
}

int outputs(const std::string& library, const std::string& path, const std::string& inputs) {
  auto runtime = edgedistill::open_runtime(Json::Object{{"model", path}, {"library", library}, {"litert", library}});
  auto model = runtime->load(path, 1, {}, "");
  edgedistill::Feed feed;
  feed[model->inputs().at(0).name] = edgedistill::read_npy(inputs).at(0);
  model->prepare({feed});
  model->run(0);
  Json::Object found;
  for (const auto& [name, values] : model->outputs()) {
    Json::List list;
    for (float value : values) list.emplace_back(static_cast<double>(value));
    found.emplace_back(name, std::move(list));
  }
  std::cout << Json(found).dump() << "\n";
  return 0;
}

// What a picture becomes by the steps of a contract, as bytes of RGB.
int prepare(const std::string& steps, const std::string& picture) {
  std::ifstream stream(steps);
  std::stringstream content;
  content << stream.rdbuf();
  const edgedistill::Tensor row = edgedistill::read_npy(picture).at(0);
  auto side = [&](size_t place) { return static_cast<size_t>(row.shape.at(place)); };
  edgedistill::Pixels pixels{side(2), side(1), side(3), {row.bytes.begin(), row.bytes.end()}};
  pixels = edgedistill::prepared(std::move(pixels), Json::parse(content.str()));
  std::cout.write(reinterpret_cast<const char*>(pixels.data.data()), static_cast<std::streamsize>(pixels.data.size()));
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::string command = count > 1 ? words[1] : "";
  try {
    if (command == "serve") return edgedistill::serve(count > 2 ? words[2] : "");
    if (command == "session") return session();
    if (command == "starts") return 0;
    if (command == "version" && count == 4) {
      const bool litert = std::string(words[2]) == "litert";
      auto runtime = litert ? edgedistill::open_litert(words[3]) : edgedistill::open_onnxruntime(words[3]);
      std::cout << runtime->describe()["runtime_version"].text();
      return 0;
    }
    if (command == "prepare" && count == 4) return prepare(words[2], words[3]);
    if (command == "outputs" && count == 5) return outputs(words[2], words[3], words[4]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  std::cerr << "usage: edgedistill-runner serve [FOLDER] | starts | session | version KIND LIBRARY | prepare STEPS PICTURE | outputs LIBRARY MODEL "
               "INPUTS\n";
  return 2;
}
