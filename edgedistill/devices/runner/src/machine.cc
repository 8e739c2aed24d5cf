#include "machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "error.h"
#include "heat.h"
#include "sha256.h"

namespace edgedistill {
namespace {

constexpr int kReferenceRepeats = 15;
constexpr int kReferenceRounds = 20000;

bool digits(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

std::string cpu_folder(int cpu) { return "/sys/devices/system/cpu/cpu" + std::to_string(cpu); }

struct Core {
  std::optional<int> capacity;
  std::vector<int> siblings;
};

Core core(int cpu) {
  Core found;
  std::string capacity = read_text(cpu_folder(cpu) + "/cpu_capacity");
  if (digits(capacity)) found.capacity = std::stoi(capacity);
  std::stringstream parts(read_text(cpu_folder(cpu) + "/topology/thread_siblings_list"));
  for (std::string part; std::getline(parts, part, ',');) {
    int low = 0, high = 0;
    int count = std::sscanf(part.c_str(), "%d-%d", &low, &high);
    for (int one = low; count >= 1 && one <= (count == 2 ? high : low); ++one) found.siblings.push_back(one);
  }
  if (found.siblings.empty()) found.siblings.push_back(cpu);
  return found;
}

// The value of a line "name : value" of /proc/cpuinfo.
std::string cpuinfo(const std::vector<std::string>& names) {
  std::stringstream lines(read_text("/proc/cpuinfo"));
  for (std::string line; std::getline(lines, line);) {
    size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    if (std::find(names.begin(), names.end(), name) != names.end() && colon + 2 < line.size()) return line.substr(colon + 2);
  }
  return "";
}

// What a program of the system prints, at most a few lines; empty where there is none.
std::string printed(const std::string& program, const std::string& arguments) {
  std::FILE* pipe = access(program.c_str(), X_OK) == 0 ? popen((program + " " + arguments).c_str(), "r") : nullptr;
  if (!pipe) return "";
  char text[1024];
  size_t count = std::fread(text, 1, sizeof text, pipe);
  pclose(pipe);
  return std::string(text, count);
}

// A property of Android's, empty elsewhere.
std::string property(const char* name) {
  std::string found = printed("/system/bin/getprop", name);
  found = found.substr(0, found.find('\n'));
  return found.substr(0, found.find_last_not_of(' ') + 1);
}

// The power mode of NVIDIA's boards (`MAXN`, `15W`), empty elsewhere.
std::string jetson_mode() {
  const std::string title = "NV Power Mode: ";
  std::stringstream lines(printed("/usr/sbin/nvpmodel", "-q 2>/dev/null"));
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(title, 0) == 0) return line.substr(title.size());
  }
  return "";
}

std::string machine_name() {
  utsname name{};
  uname(&name);
  return name.machine;
}

std::string cpu_name() {
  std::string named = property("ro.soc.model");
  if (named.empty()) named = cpuinfo({"model name", "Hardware"});
  return named.empty() ? machine_name() : named;
}

// With the family and model that an x86 processor has: a virtual machine's name often tells no generation.
std::string processor() {
  std::string told;
  for (const auto& [name, field] : {std::pair{"family", "cpu family"}, std::pair{"model", "model"}}) {
    std::string number = cpuinfo({field});
    if (!number.empty()) told += (told.empty() ? "" : ", ") + std::string(name) + " " + number;
  }
  return told.empty() ? cpu_name() : cpu_name() + " (" + told + ")";
}

std::string device_name() {
  std::string model = property("ro.product.model");
  if (!model.empty()) return property("ro.product.manufacturer") + " " + model;
  std::string board = read_text("/proc/device-tree/model");
  return board.empty() ? cpu_name() : board;
}

// The frequency governor, on a Jetson behind the board's own power mode.
std::string power_mode(int cpu) {
  std::string found = read_text(cpu_folder(cpu) + "/cpufreq/scaling_governor");
  std::string board = jetson_mode();
  if (board.empty()) return found.empty() ? "unknown" : found;
  return found.empty() ? board : board + ", " + found;
}

std::string identity() {
  std::string number = read_text("/etc/machine-id");
  if (number.empty()) number = read_text("/var/lib/dbus/machine-id");
  if (number.empty()) number = property("ro.serialno");
  if (number.empty()) return "";
  std::string text = "edgedistill " + number;
  Sha256 hash;
  hash.add(text.data(), text.size());
  return hash.hex().substr(0, 12);
}

Json optional(std::optional<double> value) { return value ? Json(*value) : Json(); }

std::optional<double> clock_mhz(int cpu) {
  std::string khz = read_text(cpu_folder(cpu) + "/cpufreq/scaling_cur_freq");
  if (digits(khz)) return std::stod(khz) / 1000;
  std::stringstream lines(read_text("/proc/cpuinfo"));
  int number = -1;
  double mhz = 0;
  for (std::string line; std::getline(lines, line);) {
    if (std::sscanf(line.c_str(), "processor : %d", &number) == 1) continue;
    if (number == cpu && std::sscanf(line.c_str(), "cpu MHz : %lf", &mhz) == 1) return mhz;
  }
  return std::nullopt;
}

// How fast the processor is now, whatever the model: the median duration of a fixed piece of arithmetic, in us.
double reference_us() {
  std::vector<int64_t> durations;
  for (int i = 0; i < kReferenceRepeats; ++i) {
    int64_t began = now_ns();
    volatile uint32_t total = 0;
    for (uint32_t number = 0; number < kReferenceRounds; ++number) total = total + number;
    durations.push_back(now_ns() - began);
  }
  std::nth_element(durations.begin(), durations.begin() + kReferenceRepeats / 2, durations.end());
  return static_cast<double>(durations[kReferenceRepeats / 2]) / 1e3;
}

std::optional<double> waited_ms() {
  long long ran = 0, waited = 0, slices = 0;
  std::string text = read_text("/proc/self/schedstat");
  if (std::sscanf(text.c_str(), "%lld %lld %lld", &ran, &waited, &slices) != 3) return std::nullopt;
  return static_cast<double>(waited) / 1e6;
}

std::optional<double> stolen_ms(const std::vector<int>& cpus) {
  std::optional<double> total;
  std::stringstream lines(read_text("/proc/stat"));
  for (std::string line; std::getline(lines, line);) {
    int cpu = -1;
    long long ticks[8] = {};
    if (std::sscanf(line.c_str(), "cpu%d %lld %lld %lld %lld %lld %lld %lld %lld", &cpu, ticks, ticks + 1, ticks + 2,
                    ticks + 3, ticks + 4, ticks + 5, ticks + 6, ticks + 7) == 9 &&
        std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) {
      total = total.value_or(0) + static_cast<double>(ticks[7]) * 1000 / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
  }
  return total;
}

std::string utc_now() {
  auto now = std::chrono::system_clock::now();
  std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40], whole[64];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(whole, sizeof whole, "%s.%03d+00:00", text, static_cast<int>(ms));
  return whole;
}

}  // namespace

std::string read_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::stringstream content;
  content << stream.rdbuf();
  std::string text = content.str();
  size_t last = text.find_last_not_of(std::string("\0 \n", 3));
  return last == std::string::npos ? "" : text.substr(0, last + 1);
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> found;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
    }
  }
  if (found.empty()) found.push_back(0);
  return found;
}

std::vector<int> best_cpus(int threads) {
  std::vector<int> allowed = allowed_cpus();
  if (threads > static_cast<int>(allowed.size())) {
    throw SessionError("cpus", "a session with " + std::to_string(threads) +
                                   " threads needs as many CPUs; this process may use " + std::to_string(allowed.size()));
  }
  struct Place {
    int capacity, turn, cpu;
  };
  std::vector<Place> places;
  for (int cpu : allowed) {
    Core own = core(cpu);
    int turn = 0;  // how many CPUs of the same core come before this one
    for (int sibling : std::set<int>(own.siblings.begin(), own.siblings.end())) {
      turn += sibling > cpu && std::find(allowed.begin(), allowed.end(), sibling) != allowed.end();
    }
    places.push_back({own.capacity.value_or(0), turn, cpu});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    if (a.capacity != b.capacity) return a.capacity > b.capacity;
    return a.turn != b.turn ? a.turn < b.turn : a.cpu > b.cpu;
  });
  std::vector<int> chosen;
  for (int i = 0; i < threads; ++i) chosen.push_back(places[static_cast<size_t>(i)].cpu);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<int> pin(const std::vector<int>& cpus) {
  if (!cpus.empty()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::string names;
    for (int cpu : cpus) {
      if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<size_t>(cpu), &set);
      names += (names.empty() ? "" : ", ") + std::to_string(cpu);
    }
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
      throw SessionError("cpus", "cannot pin to CPUs [" + names + "]: " + std::strerror(errno),
                         "ask for fewer threads, or widen the CPUs that this process may use");
    }
  }
  return allowed_cpus();
}

std::optional<long long> status_bytes(const std::string& field) {
  std::stringstream lines(read_text("/proc/self/status"));
  for (std::string line; std::getline(lines, line);) {
    long long kilobytes = 0;
    if (line.rfind(field + ":", 0) == 0 && std::sscanf(line.c_str() + field.size() + 1, "%lld", &kilobytes) == 1) {
      return kilobytes * 1024;
    }
  }
  return std::nullopt;
}

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

void limit_memory(long long bytes) {
  std::optional<long long> now = status_bytes("VmData");
  rlimit limits{};
  if (!now || getrlimit(RLIMIT_DATA, &limits) != 0) return;
  rlim_t wanted = static_cast<rlim_t>(*now + bytes);
  if (limits.rlim_cur == RLIM_INFINITY || limits.rlim_cur > wanted) limits.rlim_cur = wanted;
  if (limits.rlim_max != RLIM_INFINITY && limits.rlim_cur > limits.rlim_max) limits.rlim_cur = limits.rlim_max;
  setrlimit(RLIMIT_DATA, &limits);
}

std::string os_name() {
  utsname kernel{};
  uname(&kernel);
  std::string android = property("ro.build.version.release");
  std::string distribution = android.empty() ? "Linux" : "Android " + android;
  std::stringstream lines(read_text("/etc/os-release"));
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("PRETTY_NAME=", 0) == 0) {
      distribution = line.substr(12);
      distribution.erase(std::remove(distribution.begin(), distribution.end(), '"'), distribution.end());
    }
  }
  return distribution + ", kernel " + kernel.release;
}

Json facts(const std::string& distribution, const std::string& version) {
  std::vector<int> allowed = allowed_cpus();
  double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  char size[32];
  std::snprintf(size, sizeof size, "%.1f GiB", memory / (1024.0 * 1024.0 * 1024.0));
  Json::Object found{{"device", device_name()},
                     {"processor", processor()},
                     {"machine", machine_name()},
                     {"cpus", std::to_string(allowed.size()) + " usable of " +
                                  std::to_string(sysconf(_SC_NPROCESSORS_CONF))},
                     {"memory", std::string(size)},
                     {"system", os_name()},
                     {"power mode", power_mode(allowed.back())},
                     {"agent", "runner"},
                     {"id", identity()}};
  if (!distribution.empty()) found.emplace_back(distribution, version.empty() ? "absent" : version);
  return found;
}

Json environment(const std::vector<int>& cpus) {
  Json::List numbers, cores;
  for (int cpu : cpus) {
    Core own = core(cpu);
    Json::List siblings(own.siblings.begin(), own.siblings.end());
    numbers.emplace_back(cpu);
    cores.push_back(Json::Object{
        {"cpu", cpu}, {"capacity", own.capacity ? Json(*own.capacity) : Json()}, {"siblings", std::move(siblings)}});
  }
  return Json::Object{{"device", device_name()},         {"os", os_name()},       {"machine", machine_name()},
                      {"cpu", processor()},              {"pinned_cpus", numbers}, {"cores", cores},
                      {"power", power_mode(cpus.empty() ? 0 : cpus[0])}, {"agent", "runner"}};
}

Json moment(const std::vector<int>& cpus) {
  double load = 0;
  std::string loads = read_text("/proc/loadavg");
  bool known = std::sscanf(loads.c_str(), "%lf", &load) == 1;
  const int first = cpus.empty() ? 0 : cpus[0];
  Json::Object now{{"at", utc_now()},
                   {"reference_us", reference_us()},
                   {"clock_mhz", optional(clock_mhz(first))},
                   {"load", known ? Json(load) : Json()},
                   {"waited_ms", optional(waited_ms())},
                   {"stolen_ms", optional(stolen_ms(cpus))}};
  for (auto& field : heat(first)) now.push_back(std::move(field));
  return now;
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace edgedistill
