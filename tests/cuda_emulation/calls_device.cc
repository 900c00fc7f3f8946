/* The device's description, errors as text, the profiler. */
#include "cuda_emulation/world.h"

#include <cstdio>

extern "C" cudaError_t cudaGetDeviceCount(int *count) {
    cemu_call call("cudaGetDeviceCount", CEMU_PLAIN);
    if (count)
        *count = call.refused ? 0 : 1;
    return call.give(count ? cudaSuccess : cudaErrorInvalidValue);
}

static int check_device(cemu_world &world, int device) {
    if (device == 0)
        return 0;
    cemu_complain(world, CEMU_BAD_CALL, "device %d: there is one, 0", device);
    return cudaErrorInvalidDevice;
}

extern "C" cudaError_t cudaSetDevice(int device) {
    cemu_call call("cudaSetDevice", CEMU_PLAIN);
    return call.refused ? call.give() : call.give(check_device(call.world, device));
}

extern "C" cudaError_t cudaGetDevice(int *device) {
    cemu_call call("cudaGetDevice", CEMU_PLAIN);
    if (call.refused || !device)
        return call.give(cudaErrorInvalidValue);
    *device = 0;
    return call.give();
}

/* Figures of an H100 where the options name no others. */
static void describe(const cemu_world &world, struct cudaDeviceProp *p) {
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated device");
    p->totalGlobalMem = world.options.device_bytes;
    p->sharedMemPerBlock = 48 * 1024;
    p->regsPerBlock = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->totalConstMem = 65536;
    p->major = static_cast<int>(world.options.major);
    p->minor = static_cast<int>(world.options.minor);
    p->multiProcessorCount = static_cast<int>(world.options.processors);
    p->canMapHostMemory = 1;
    p->concurrentKernels = 1;
    p->asyncEngineCount = 2;
    p->unifiedAddressing = 1;
    p->memoryBusWidth = 5120;
    p->l2CacheSize = 50 << 20;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerMultiprocessor = 228 * 1024;
    p->regsPerMultiprocessor = 65536;
    p->managedMemory = 1;
    p->cooperativeLaunch = 1;
    p->sharedMemPerBlockOptin = 227 * 1024;
    p->hostRegisterSupported = 1;
    p->maxBlocksPerMultiProcessor = 32;
    p->reservedSharedMemPerBlock = 1024;
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    cemu_call call("cudaGetDeviceProperties", CEMU_PLAIN);
    if (call.refused || !properties)
        return call.give(cudaErrorInvalidValue);
    const int error = check_device(call.world, device);
    if (!error)
        describe(call.world, properties);
    return call.give(error);
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute,
                                              int device) {
    cemu_call call("cudaDeviceGetAttribute", CEMU_PLAIN);
    if (call.refused || !value)
        return call.give(cudaErrorInvalidValue);
    const int error = check_device(call.world, device);
    if (error)
        return call.give(error);
    struct cudaDeviceProp properties;
    describe(call.world, &properties);
    switch (attribute) {
#define CEMU_ATTRIBUTE(name, number, member)                                                       \
    case name:                                                                                     \
        *value = static_cast<int>(properties.member);                                              \
        return call.give();
        CUDA_ATTRIBUTES(CEMU_ATTRIBUTE)
#undef CEMU_ATTRIBUTE
    case cudaDevAttrClockRate:
        *value = 1980000;
        return call.give();
    case cudaDevAttrMemoryClockRate:
        *value = 2619000;
        return call.give();
    }
    cemu_complain(call.world, CEMU_BAD_CALL, "attribute %d", static_cast<int>(attribute));
    return call.give(cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaDriverGetVersion(int *version) {
    cemu_call call("cudaDriverGetVersion", CEMU_PLAIN);
    if (version)
        *version = call.world.options.no_driver ? 0 : CUDART_VERSION;
    /* Without a driver this one call succeeds and says 0, as CUDA has it. */
    if (call.world.options.no_driver && version)
        return cudaSuccess;
    return call.give(version ? cudaSuccess : cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version) {
    cemu_call call("cudaRuntimeGetVersion", CEMU_PLAIN);
    if (call.refused || !version)
        return call.give(cudaErrorInvalidValue);
    *version = CUDART_VERSION;
    return call.give();
}

extern "C" cudaError_t cudaGetLastError(void) {
    cemu_call call("cudaGetLastError", CEMU_REPORTS);
    const int error = call.world.last_error;
    call.world.last_error = call.world.sticky;
    return static_cast<cudaError_t>(error);
}

extern "C" cudaError_t cudaPeekAtLastError(void) {
    cemu_call call("cudaPeekAtLastError", CEMU_REPORTS);
    return static_cast<cudaError_t>(call.world.last_error);
}

extern "C" const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
#define CEMU_NAME(name, value, text)                                                               \
    case name:                                                                                     \
        return #name;
        CUDA_ERRORS(CEMU_NAME)
#undef CEMU_NAME
    }
    return "unrecognized error code";
}

/* Of a fault that a kernel or a copy made, with what is known of it. */
extern "C" const char *cudaGetErrorString(cudaError_t error) {
    const cemu_world &world = cemu_here();
    if (error && error == world.sticky && !world.broken.empty())
        return world.broken.c_str();
    switch (error) {
#define CEMU_TEXT(name, value, text)                                                               \
    case name:                                                                                     \
        return text;
        CUDA_ERRORS(CEMU_TEXT)
#undef CEMU_TEXT
    }
    return "unrecognized error code";
}

extern "C" cudaError_t cudaProfilerStart(void) {
    cemu_call call("cudaProfilerStart", CEMU_PLAIN);
    if (!call.refused)
        call.world.counts.profiler_starts++;
    return call.give();
}

extern "C" cudaError_t cudaProfilerStop(void) {
    cemu_call call("cudaProfilerStop", CEMU_PLAIN);
    if (!call.refused)
        call.world.counts.profiler_stops++;
    return call.give();
}
