"""Environment variables that make torch faster and smaller, for every process that will import it."""

# Set before torch is imported, because torch reads it then; a value that the user has set stays.
TORCH_ENVIRONMENT = {
    # Waiting threads sleep instead of spinning. With one other busy process on two cores, generation with a 135M model
    # took 3.3 s instead of 19.2 s.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Every large tensor begins on a new page. Otherwise glibc cannot reuse a tensor's place for the next one of that
    # size if small objects have moved into the gap before it; now it nearly always can. Training SmolLM2-135M takes
    # 0.5 GiB less at the same speed.
    "THP_MEM_ALLOC_ENABLE": "1",
    # On a CPU every shape of a matrix product in bfloat16 leaves kernels and buffers in two caches (oneDNN's and its
    # wrapper's) of up to 1,024 entries. Rows of a training rarely have the same width, and a 0.5B model grew by 0.5 GiB
    # a step. One row has about 20 shapes, which all layers share.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "LRU_CACHE_CAPACITY": "32",
}
