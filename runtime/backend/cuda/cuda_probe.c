#include "backend/cuda/cuda_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The oldest driver that runs what this toolkit builds, from CUDA's release notes. */
#if CUDART_VERSION >= 13000
#define DRIVER_NEEDED "580.65.06"
#else
#define DRIVER_NEEDED "525.60.13"
#endif
#define VERSION_MAJOR (CUDART_VERSION / 1000)
#define VERSION_MINOR (CUDART_VERSION % 1000 / 10)

enum { DEVICE_MAJOR_MIN = 8 };

/* What to do about an error, by what it is. */
static const char *advice(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "lower the pages, branches or rows of the run, or free the device of other work";
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
        return "install NVIDIA driver " DRIVER_NEEDED " or later (nvidia.com/drivers; in a "
               "container, run it with --gpus all), or use backend cpu";
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
        return "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use backend cpu";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
        return "build for this device: cmake -DCMAKE_CUDA_ARCHITECTURES=native";
    case cudaErrorDevicesUnavailable:
        return "another process holds the device: wait for it, or choose another one";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
        return "the device is lost to this process: start again; compute-sanitizer names the "
               "access";
    case cudaErrorECCUncorrectable:
        return "the device's memory failed: nvidia-smi -q tells more";
    default:
        return "start again; nvidia-smi tells how the device is";
    }
}

static cop_status status_of(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return COP_ERR_NO_MEMORY;
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
        return COP_ERR_UNSUPPORTED;
    default:
        return COP_ERR_DEVICE;
    }
}

/* The first failure is the one that counts: those after it are what it brought. */
static cop_status fail(cop_backend *b, cop_status status, const char *text) {
    if (b && !b->broken) {
        b->broken = true;
        snprintf(b->broken_text, sizeof b->broken_text, "%s", text);
    }
    return COP_FAIL(status, "%s", text);
}

cop_status cop__cuda_fail(cop_backend *b, const char *call, cudaError_t error) {
    char text[COP__MESSAGE_BYTES];
    snprintf(text, sizeof text, "%s: %s (%s): %s", call, cudaGetErrorString(error),
             cudaGetErrorName(error), advice(error));
    return fail(b, status_of(error), text);
}

cop_status cop__blas_fail(cop_backend *b, const char *call, cublasStatus_t status) {
    char text[COP__MESSAGE_BYTES];
    const bool memory = status == CUBLAS_STATUS_ALLOC_FAILED;
    snprintf(text, sizeof text, "%s: %s (%s): %s", call, cublasGetStatusString(status),
             cublasGetStatusName(status),
             advice(memory ? cudaErrorMemoryAllocation : cudaErrorUnknown));
    return fail(b, memory ? COP_ERR_NO_MEMORY : COP_ERR_DEVICE, text);
}

/* ---- devices ---- */

/* One sentence on what is missing, or "" where there is a device. */
static void missing(int *n_devices, char *text, size_t capacity) {
    int driver = 0;
    *n_devices = 0;
    const cudaError_t error = cudaGetDeviceCount(n_devices);
    text[0] = '\0';
    if (error == cudaSuccess && *n_devices > 0)
        return;
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    *n_devices = 0;
    char call[120];
    snprintf(call, sizeof call, "(cudaGetDeviceCount: %s)",
             error == cudaSuccess ? "no device" : cudaGetErrorName(error));
    if (driver == 0)
        snprintf(text, capacity,
                 "no NVIDIA driver is installed %s: CUDA %d.%d needs driver %s or later "
                 "(nvidia.com/drivers; in a container, run it with --gpus all); or use backend cpu",
                 call, VERSION_MAJOR, VERSION_MINOR, DRIVER_NEEDED);
    else if (error == cudaErrorInsufficientDriver)
        snprintf(text, capacity,
                 "the NVIDIA driver knows CUDA up to %d.%d and this build uses %d.%d %s: install "
                 "driver %s or later (nvidia.com/drivers), or use backend cpu",
                 driver / 1000, driver % 1000 / 10, VERSION_MAJOR, VERSION_MINOR, call,
                 DRIVER_NEEDED);
    else if (error == cudaSuccess || error == cudaErrorNoDevice)
        snprintf(text, capacity,
                 "the NVIDIA driver finds no device %s: check nvidia-smi and CUDA_VISIBLE_DEVICES, "
                 "or use backend cpu",
                 call);
    else
        snprintf(text, capacity, "%s %s: %s", call, cudaGetErrorString(error), advice(error));
}

static const char *too_old(const struct cudaDeviceProp *p) {
    return p->major < DEVICE_MAJOR_MIN ? "older than compute capability 8.0, which is needed" : "";
}

cop_status cop__cuda_choose_device(cop_backend *b) {
    char text[COP__MESSAGE_BYTES];
    int n_devices, driver = 0;
    missing(&n_devices, text, sizeof text);
    if (text[0])
        return COP_FAIL(COP_ERR_UNSUPPORTED, "%s", text);
    if (b->options.device >= (uint32_t)n_devices)
        return COP_FAIL(COP_ERR_USAGE, "device %u: there %s %d, counted from 0", b->options.device,
                        n_devices == 1 ? "is" : "are", n_devices);
    struct cudaDeviceProp p;
    COP__CUDA(b, cudaGetDeviceProperties, &p, (int)b->options.device);
    if (too_old(&p)[0])
        return COP_FAIL(COP_ERR_UNSUPPORTED, "device %u, %s, has compute capability %d.%d: %s",
                        b->options.device, p.name, p.major, p.minor, too_old(&p));
    COP__CUDA(b, cudaSetDevice, (int)b->options.device);
    COP__CUDA(b, cudaDriverGetVersion, &driver);
    snprintf(b->describe, sizeof b->describe,
             "%.80s, sm_%d%d, %zu GiB, driver for CUDA %d.%d, runtime %d.%d, products %s, %s",
             p.name, p.major, p.minor, (size_t)(p.totalGlobalMem >> 30), driver / 1000,
             driver % 1000 / 10, VERSION_MAJOR, VERSION_MINOR, cop_products_mode_name(b->products),
             b->options.eager ? "no graphs" : "graphs");
    return COP_OK;
}

typedef struct lines {
    char *text;
    size_t capacity, used;
} lines;

static void add(lines *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(lines *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(l->text + l->used, l->capacity - l->used, format, args);
    va_end(args);
    if (n > 0)
        l->used += (size_t)n < l->capacity - l->used ? (size_t)n : l->capacity - l->used - 1;
}

bool cop__cuda_probe(char *text, size_t capacity) {
    char why[COP__MESSAGE_BYTES];
    lines l = {text, capacity, 0};
    int n_devices, driver = 0;
    if (capacity == 0)
        return false;
    text[0] = '\0';
    missing(&n_devices, why, sizeof why);
    add(&l, "cuda runtime %d.%d", VERSION_MAJOR, VERSION_MINOR);
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0)
        add(&l, ", driver for CUDA %d.%d", driver / 1000, driver % 1000 / 10);
    add(&l, "\n");
    if (why[0])
        add(&l, "%s\n", why);
    bool usable = false;
    for (int i = 0; i < n_devices; i++) {
        struct cudaDeviceProp p;
        if (cudaGetDeviceProperties(&p, i) != cudaSuccess) {
            add(&l, "device %d: cannot be asked\n", i);
            continue;
        }
        usable = usable || !too_old(&p)[0];
        add(&l, "device %d: %s, compute capability %d.%d, %d multiprocessors, %zu MiB%s%s\n", i,
            p.name, p.major, p.minor, p.multiProcessorCount, (size_t)(p.totalGlobalMem >> 20),
            too_old(&p)[0] ? "; " : "", too_old(&p));
    }
    return usable;
}
