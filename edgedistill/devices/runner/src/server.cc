#include "server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "error.h"
#include "json.h"
#include "machine.h"
#include "sha256.h"

namespace edgedistill {
namespace {

namespace fs = std::filesystem;

constexpr int kProtocol = 1;
constexpr double kSilenceS = 30, kAliveS = 5;
constexpr size_t kChunk = 1 << 18, kLongestLine = 1 << 20, kLongestAnswer = 1 << 26, kSaid = 4000;
const std::string kPrefix = "edgedistill-device-", kProgram = "edgedistill-runner-";
constexpr std::time_t kUnfinishedS = 600;

volatile sig_atomic_t ended = 0;

// The channel has ended, or the other side is silent: the server ends.
struct Gone {};

// A request that cannot be served.
struct Refused {
  std::string kind, message;
};

double now_s() { return static_cast<double>(now_ns()) / 1e9; }

std::string error_text(int number) { return std::strerror(number); }

// Both directions of the channel. It says that it is alive whenever it waits.
class Line {
 public:
  Line(int source, int sink) : source_(source), sink_(sink), heard_(now_s()), told_(heard_) {}

  void tell(const Json& answer) {
    std::string text = answer.dump() + "\n";
    for (size_t sent = 0; sent < text.size();) {
      ssize_t count = write(sink_, text.data() + sent, text.size() - sent);
      if (count < 0 && errno == EINTR && !ended) continue;
      if (count <= 0) throw Gone{};
      sent += static_cast<size_t>(count);
    }
    told_ = now_s();
  }

  // Wait until the other side says something, which is then kept, or `other` can be read, or for so long; whether `other` can
  // be read. Throws Gone at the channel's end and after a long silence.
  bool wait(double seconds, int other = -1) {
    double now = now_s();
    if (ended || now - heard_ >= kSilenceS) throw Gone{};
    if (now - told_ >= kAliveS) tell(Json::Object{{"alive", true}});
    pollfd ready[2] = {{source_, POLLIN, 0}, {other, POLLIN, 0}};
    int ms = static_cast<int>(1000 * std::max(0.0, std::min(seconds, kAliveS)));
    if (poll(ready, other < 0 ? 1 : 2, ms) < 0) {
      if (errno == EINTR && !ended) return false;
      throw Gone{};
    }
    if (ready[0].revents) {
      std::vector<char> data(kChunk);
      ssize_t count = read(source_, data.data(), data.size());
      if (count <= 0) throw Gone{};
      kept_.append(data.data(), static_cast<size_t>(count));
      heard_ = now_s();
    }
    return other >= 0 && ready[1].revents != 0;
  }

  // The next request. Throws Gone, and Refused for one that is none.
  Json request() {
    while (true) {
      size_t end;
      while ((end = kept_.find('\n')) == std::string::npos) {
        if (kept_.size() > kLongestLine) throw Gone{};
        wait(kAliveS);
      }
      std::string line = kept_.substr(0, end);
      kept_.erase(0, end + 1);
      Json asked;
      try {
        asked = Json::parse(line);
      } catch (const std::invalid_argument& error) {
        throw Refused{"request", error.what()};
      }
      if (asked.kind() != Json::Kind::kObject) throw Refused{"request", "a request is a JSON object"};
      if (!asked.has("alive")) return asked;
    }
  }

  // At most `most` of the bytes that come next, at least one.
  std::string data(size_t most) {
    while (kept_.empty()) wait(kAliveS);
    std::string part = kept_.substr(0, most);
    kept_.erase(0, part.size());
    return part;
  }

 private:
  int source_, sink_;
  std::string kept_;
  double heard_, told_;
};

// A lock file, held while this lives. The kernel drops it with the process.
class Lock {
 public:
  explicit Lock(const fs::path& path) : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (file_ < 0) throw Refused{"disk", path.string() + " cannot be opened: " + error_text(errno)};
  }
  Lock(const Lock&) = delete;
  ~Lock() { close(file_); }
  bool taken() { return flock(file_, LOCK_EX | LOCK_NB) == 0; }
  void wait() { flock(file_, LOCK_EX); }

 private:
  int file_;
};

// The folder of a server that has ended: its lock is free.
bool abandoned(const fs::path& folder) {
  int file = open((folder / ".alive").c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return errno == ENOENT;
  bool free = flock(file, LOCK_EX | LOCK_NB) == 0;
  close(file);
  return free;
}

bool is_name(const std::string& name) {
  auto part = [](const std::string& text, size_t most) {
    return !text.empty() && text.size() <= most && std::all_of(text.begin(), text.end(), [](unsigned char c) {
      return std::isdigit(c) || std::islower(c) || c == '_';
    });
  };
  size_t dot = name.find('.');
  std::string stem = name.substr(0, dot);
  return part(stem, 81) && stem[0] != '_' && (dot == std::string::npos || part(name.substr(dot + 1), 16));
}

// A child process that runs this program again: what it writes, and how it ends.
struct Child {
  pid_t pid = -1;
  int output = -1;

  ~Child() {
    if (output >= 0) close(output);
    if (pid > 0) {
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
};

void start(Child& child, const fs::path& program, const std::vector<std::string>& arguments, int input, int errors,
           const fs::path& folder) {
  int pipes[2];
  if (pipe2(pipes, O_CLOEXEC) != 0) throw Refused{"request", "no process can be started: " + error_text(errno)};
  std::vector<char*> words;
  for (const auto& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent || chdir(folder.c_str()) != 0) _exit(126);
    for (int number : {SIGTERM, SIGHUP, SIGINT, SIGPIPE}) signal(number, SIG_DFL);
    dup2(input, 0);
    dup2(pipes[1], 1);
    dup2(errors, 2);
    execv(program.c_str(), words.data());
    _exit(127);
  }
  close(pipes[1]);
  child.pid = pid;
  child.output = pipes[0];
  if (pid < 0) throw Refused{"request", "no process can be started: " + error_text(errno)};
}

class Server {
 public:
  Server(Line& line, const std::string& base) : line_(line), base_(base.empty() ? temporary() : fs::path(base)) {
    std::error_code error;
    for (const auto& other : fs::directory_iterator(base_, error)) {
      struct stat state {};
      const std::string name = other.path().filename().string();
      if (stat(other.path().c_str(), &state) != 0 || state.st_uid != getuid()) continue;
      // A program whose connection was lost while it came is a file that no one moved.
      bool unfinished = name.rfind(kProgram, 0) == 0 && std::time(nullptr) - state.st_mtime > kUnfinishedS;
      if (unfinished || (name.rfind(kPrefix, 0) == 0 && abandoned(other.path()))) {
        std::error_code ignored;
        fs::remove_all(other.path(), ignored);
      }
    }
    // Under another name until its lock is held: a server that begins meanwhile would take it for an abandoned one.
    std::string made = (base_ / (".XXXXXX" + kPrefix)).string();
    if (!mkdtemps(made.data(), static_cast<int>(kPrefix.size()))) {
      throw Refused{"disk", "no folder can be made in " + base_.string() + ": " + error_text(errno)};
    }
    alive_ = std::make_unique<Lock>(fs::path(made) / ".alive");
    alive_->taken();
    folder_ = base_ / (kPrefix + std::to_string(getpid()) + "-" + fs::path(made).filename().string().substr(1, 6));
    fs::rename(made, folder_);
    // The program that came through the channel lies where the rest is kept, and goes with it.
    std::error_code unknown;
    program_ = fs::read_symlink("/proc/self/exe", unknown);
    if (program_.filename().string().rfind(kProgram, 0) == 0) {
      fs::rename(program_, folder_ / ".runner");
      program_ = folder_ / ".runner";
    }
  }

  ~Server() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  void serve() {
    line_.tell(Json::Object{{"edgedistill", kProtocol}, {"runner", "C++"}});
    while (true) {
      try {
        answer(line_.request());
      } catch (const Refused& error) {
        line_.tell(Json::Object{{"error", Json::Object{{"kind", error.kind}, {"message", error.message}}}});
      } catch (const std::exception& error) {
        line_.tell(Json::Object{{"error", Json::Object{{"kind", "request"}, {"message", error.what()}}}});
      }
    }
  }

 private:
  static fs::path temporary() {
    const char* named = std::getenv("TMPDIR");
    if (named && *named && access(named, W_OK) == 0) return named;
    return access("/data/local/tmp", W_OK) == 0 ? "/data/local/tmp" : "/tmp";
  }

  // mkdtemp with a suffix, which Android lacks.
  static char* mkdtemps(char* pattern, int suffix) {
    size_t length = std::strlen(pattern);
    std::string kept(pattern + length - static_cast<size_t>(suffix));
    for (int attempt = 0; attempt < 100; ++attempt) {
      static const char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
      std::ifstream source("/dev/urandom", std::ios::binary);
      for (size_t i = 0; i < 6; ++i) {
        pattern[length - kept.size() - 6 + i] = kLetters[static_cast<unsigned char>(source.get()) % 36];
      }
      if (mkdir(pattern, 0700) == 0) return pattern;
      if (errno != EEXIST) return nullptr;
    }
    return nullptr;
  }

  void answer(const Json& asked) {
    if (asked.has("put")) {
      put(place(asked["put"]), static_cast<size_t>(asked["bytes"].number()), asked["sha256"].text());
      line_.tell(Json::Object{{"done", "put"}});
    } else if (asked.has("drop")) {
      unlink(place(asked["drop"]).c_str());
      line_.tell(Json::Object{{"done", "drop"}});
    } else if (asked.has("end")) {
      std::error_code ignored;
      fs::remove_all(folder_, ignored);
      line_.tell(Json::Object{{"done", "end"}});
      throw Gone{};
    } else if (asked.has("facts")) {
      const std::string key = asked["facts"].text() == "ai-edge-litert" ? "litert" : "library";
      bool of_library = asked.has(key) && (key == "litert" || asked["facts"].text() == "onnxruntime");
      std::string version = of_library ? version_of(key, place(asked[key])) : "";
      line_.tell(Json::Object{{"facts", facts(asked["facts"].text(), version)}});
    } else if (asked.has("run")) {
      run(asked["run"], asked["limit_s"].number());
    } else {
      throw Refused{"request", "nothing is known of this request"};
    }
  }

  fs::path place(const Json& name) {
    if (name.kind() != Json::Kind::kText || !is_name(name.text())) {
      throw Refused{"request", name.dump() + " is no name of a file"};
    }
    return folder_ / name.text();
  }

  // Keep the next `count` bytes. All are taken in any case, so that the next request is found behind them.
  void put(const fs::path& path, size_t count, const std::string& sha256) {
    fs::path partial = path.string() + ".part";
    size_t size = count;
    Sha256 hash;
    int failed = 0, file = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (file < 0) failed = errno;
    while (count) {
      std::string part = line_.data(count);
      hash.add(part.data(), part.size());
      count -= part.size();
      for (size_t written = 0; !failed && written < part.size();) {
        ssize_t done = write(file, part.data() + written, part.size() - written);
        if (done < 0) failed = errno;
        else written += static_cast<size_t>(done);
      }
    }
    if (file >= 0 && close(file) != 0 && !failed) failed = errno;
    std::string found = hash.hex();
    if (!failed && found == sha256) {
      fs::rename(partial, path);
      return;
    }
    unlink(partial.c_str());
    if (!failed) throw Refused{"hash", std::to_string(size) + " bytes came with sha256 " + found + ", not " + sha256};
    std::error_code ignored;
    throw Refused{"disk", std::to_string(size) + " bytes cannot be kept in " + base_.string() + ": " + error_text(failed) +
                              "; " + std::to_string(fs::space(folder_, ignored).available) + " bytes are free"};
  }

  std::string version_of(const std::string& key, const fs::path& library) {
    Child child;
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    start(child, program_, {"edgedistill-runner", "version", key, library.string()}, nothing, nothing, folder_);
    close(nothing);
    std::optional<std::string> said = read_all(child, 30);
    return said.value_or("");
  }

  // One session, when no other one measures on this device and nothing trains.
  void run(Json job, double limit_s) {
    for (const char* name : {"model", "library", "litert", "inputs", "anchor"}) {
      if (job.has(name) && !job[name].is_null()) job.set(name, place(job[name]).string());
    }
    fs::path measuring = temporary() / ("edgedistill-measuring-" + std::to_string(getuid()) + ".lock");
    auto turn = std::make_shared<Lock>(measuring), training = std::make_shared<Lock>(measuring.string() + ".training");
    hold(turn, "another measurement");
    hold(training, "a training");
    if (!job.has("pinned_cpus") || job["pinned_cpus"].list().empty()) {
      Json::List cpus;
      try {
        for (int cpu : best_cpus(static_cast<int>(job["threads"].number()))) cpus.emplace_back(cpu);
      } catch (const SessionError& error) {
        throw Refused{"cpus", error.what()};
      }
      job.set("pinned_cpus", std::move(cpus));
    }
    line_.tell(Json::Object{{"started", true}});
    line_.tell(session(job.dump(), limit_s));
  }

  // Wait for the lock in the kernel's queue: whoever asked again and again would hardly meet the moment between two sessions of
  // another build.
  void hold(const std::shared_ptr<Lock>& lock, const char* what) {
    if (lock->taken()) return;
    line_.tell(Json::Object{{"waiting", what}});
    int held[2];
    if (pipe2(held, O_CLOEXEC) != 0) throw Refused{"request", "no pipe can be made: " + error_text(errno)};
    std::thread([lock, end = held[1]] {
      lock->wait();
      close(end);
    }).detach();
    while (!line_.wait(kAliveS, held[0])) {
    }
    close(held[0]);
  }

  Json session(const std::string& job, double limit_s) {
    fs::path asked = folder_ / ".job", said = folder_ / ".said";
    std::ofstream(asked, std::ios::binary) << job;
    int input = open(asked.c_str(), O_RDONLY | O_CLOEXEC);
    int errors = open(said.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    Child child;
    start(child, program_, {"edgedistill-runner", "session"}, input, errors, folder_);
    close(input);
    close(errors);
    std::optional<std::string> found = read_all(child, limit_s);
    if (!found) return Json::Object{{"timeout", true}};
    if (!found->empty()) return Json::Object{{"answer", *found}};
    int status = 0;
    waitpid(child.pid, &status, 0);
    child.pid = -1;
    int code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    std::string last = read_text(said.string());
    return Json::Object{{"ended", code}, {"said", last.substr(last.size() > kSaid ? last.size() - kSaid : 0)}};
  }

  // All that a child writes until it ends; nothing where it has not within `limit_s`, or writes without end.
  std::optional<std::string> read_all(Child& child, double limit_s) {
    std::string found;
    double end = now_s() + limit_s;
    std::vector<char> part(kChunk);
    while (found.size() <= kLongestAnswer && now_s() < end) {
      if (!line_.wait(end - now_s(), child.output)) continue;
      ssize_t count = read(child.output, part.data(), part.size());
      if (count <= 0) return found;
      found.append(part.data(), static_cast<size_t>(count));
    }
    return std::nullopt;
  }

  Line& line_;
  fs::path base_, folder_, program_;
  std::unique_ptr<Lock> alive_;
};

}  // namespace

int serve(const std::string& base) {
  // adbd leaves its own end of the channel open in what it starts, which would then never see the channel end.
  for (int file = 3; file < 1024; ++file) close(file);
  struct sigaction end {};
  end.sa_handler = [](int) { ended = 1; };
  for (int number : {SIGTERM, SIGHUP, SIGINT}) sigaction(number, &end, nullptr);
  signal(SIGPIPE, SIG_IGN);
  int sink = fcntl(1, F_DUPFD_CLOEXEC, 3);
  dup2(2, 1);  // what a library prints must not come between the answers
  Line line(0, sink);
  try {
    Server(line, base).serve();
  } catch (const Gone&) {
    return 0;
  } catch (const Refused& error) {
    try {
      line.tell(Json::Object{{"error", Json::Object{{"kind", error.kind}, {"message", error.message}}}});
    } catch (const Gone&) {
    }
    return 1;
  }
  return 0;
}

}  // namespace edgedistill
