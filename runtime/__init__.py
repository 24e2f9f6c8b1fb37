"""Runtime: devices, buffers, executables, dispatch, worker threads, cache, profiler."""
