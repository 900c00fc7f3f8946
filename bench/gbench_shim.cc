#include "gbench_shim.h"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <sstream>
#include <string>

namespace {

class Collector : public benchmark::BenchmarkReporter {
  public:
    explicit Collector(cop_gbench_result *result) : result_(result) {}
    bool ReportContext(const Context &) override {
        return true;
    }
    void ReportRuns(const std::vector<Run> &runs) override {
        for (const Run &run : runs) {
            if (run.run_type != Run::RT_Iteration || run.iterations == 0)
                continue;
            result_->iterations = static_cast<uint64_t>(run.iterations);
            result_->real_ns =
                run.real_accumulated_time * 1e9 / static_cast<double>(run.iterations);
            result_->cpu_ns = run.cpu_accumulated_time * 1e9 / static_cast<double>(run.iterations);
        }
    }

  private:
    cop_gbench_result *result_;
};

/* The library tells how it was built only in the context of its JSON. */
std::string library_context() {
    std::ostringstream text, errors;
    benchmark::JSONReporter reporter;
    reporter.SetOutputStream(&text);
    reporter.SetErrorStream(&errors);
    benchmark::BenchmarkReporter::Context context;
    reporter.ReportContext(context);
    return text.str();
}

void iterate(benchmark::State &state, const cop_gbench_case &one, cop_gbench_result *result) {
    for (auto _ : state) {
        if (one.iterate(one.user) != 0) {
            result->failed = 1;
            state.SkipWithError("an iteration failed");
            break;
        }
    }
}

} // namespace

void cop_gbench_describe(cop_gbench_library *out) {
    const std::string context = library_context();
    const std::string key = "\"library_build_type\": \"";
    const size_t at = context.find(key);
    const size_t begin = at == std::string::npos ? 0 : at + key.size();
    const size_t end = at == std::string::npos ? 0 : context.find('"', begin);
    const std::string type = end > begin ? context.substr(begin, end - begin) : "unknown";
    snprintf(out->build_type, sizeof out->build_type, "%s", type.c_str());
    const bool enabled = context.find("\"cpu_scaling_enabled\": true") != std::string::npos;
    const bool disabled = context.find("\"cpu_scaling_enabled\": false") != std::string::npos;
    out->cpu_scaling = enabled ? 1 : disabled ? 0 : -1;
}

uint32_t cop_gbench_run(const cop_gbench_case *cases, uint32_t n_cases, double min_time_s,
                        cop_gbench_result *results) {
    uint32_t failed = 0;
    for (uint32_t i = 0; i < n_cases; i++) {
        const cop_gbench_case &one = cases[i];
        cop_gbench_result *result = &results[i];
        *result = cop_gbench_result();
        benchmark::RegisterBenchmark(
            one.name, [&one, result](benchmark::State &state) { iterate(state, one, result); })
            ->MinTime(min_time_s)
            ->UseRealTime();
        Collector collector(result);
        benchmark::RunSpecifiedBenchmarks(&collector);
        benchmark::ClearRegisteredBenchmarks();
        result->failed |= result->iterations == 0;
        failed += result->failed != 0;
        if (result->real_ns > 0) {
            result->bytes_per_s = static_cast<double>(one.bytes) * 1e9 / result->real_ns;
            result->flops_per_s = static_cast<double>(one.flops) * 1e9 / result->real_ns;
        }
    }
    return failed;
}
